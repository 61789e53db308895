import axe from "axe-core";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { minutesAgo, useApi, type TaskFields } from "./harness.ts";
import { startProxy } from "./proxy.ts";
import {
  BODY,
  FAILED,
  FAILED_ALONE,
  LOST,
  PART,
  RETRIED,
  ROOT,
  beatHearts,
  countTasks,
  insertScene,
  keepScreenshot,
  resize,
  settle,
  useBrowser,
  type Page,
} from "./scene.ts";

const api = useApi();
const viewer = useBrowser();

const OLD: TaskFields = {
  id: "01d00000-0000-4000-8000-000000000000",
  name: "shop.charge_card",
  status: "FAILURE",
  exception: "StockConflict('SKU 1: expected 4, found 3')",
  at: minutesAgo(5 * 1_440),
};

// What is older than a range is read only every five minutes.
beforeAll(async () => {
  await insertScene(api);
  await api.insert([OLD]);
});
beforeEach(() => beatHearts(api));

function site(): string {
  return new URL("/", api.url).href;
}

/** A text on each page that only comes from the database. */
const PAGES: readonly (readonly [name: string, path: string, text: string])[] = [
  ["overview", "", "StockConflict"],
  ["tasks", "tasks", "customer_id=1234"],
  ["tasks-filtered", "tasks?status=FAILURE&name=shop.charge_card&kwargs.order_id=12345678901234567890123&range=7d", ""],
  ["task", `task?id=${FAILED}`, "PaymentGatewayTimeout"],
  ["retried", `task?id=${RETRIED}&attempt=2`, "DiskFull: no space left"],
  ["lost", `task?id=${LOST}`, "Lost with its worker"],
  ["failures", "failures", "StockConflict"],
  ["types", "types", "send_order_mail"],
  ["workers", "workers", "img-3@delos is lost"],
  ["worker", "worker?name=pay-1@atlas", "184,212"],
  ["queues", "queues?queue=images", "grows by 4 a minute"],
  ["live", "live", "StockConflict"],
  ["about", "about", "everyone on this machine"],
];

const WIDTHS = [1_440, 390] as const;
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/** Everything else that axe looks for is the same in both themes. */
const RULES_OF_COLOURS = ["color-contrast", "link-in-text-block"];

async function expectText(page: Page, text: string): Promise<void> {
  await page.getByText(text).filter({ visible: true }).first().waitFor();
}

/** What axe finds, once its source is on the page. */
async function violationsOf(page: Page, runOnly: readonly string[]): Promise<string[]> {
  const options = JSON.stringify({ resultTypes: ["violations"], preload: false, runOnly });
  return page.evaluate<string[]>(
    `axe.run(document, ${options}).then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => id + ' ' + target + ' ' + failureSummary)))`,
  );
}

/** By how much something is wider than the window. */
async function overflowOf(page: Page): Promise<number> {
  return page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
}

it.each(PAGES)("%s shows its data in both themes at every width, for everyone, and reports nothing", async (name, path, text) => {
  const page = await viewer.open(site(), { path });
  await page.evaluate(axe.source);
  for (const theme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of WIDTHS) {
      await resize(page, width);
      if (text !== "") await expectText(page, text);
      await settle(page);
      await keepScreenshot(page, `${name}-${theme}-${width}`);
      expect([theme, width, await violationsOf(page, theme === "light" ? TAGS : RULES_OF_COLOURS)]).toEqual([theme, width, []]);
      expect([theme, width, await overflowOf(page)]).toEqual([theme, width, 0]);
    }
    await resize(page, 320);
    expect([theme, await overflowOf(page)]).toEqual([theme, 0]);
  }
  expect(viewer.complaints).toEqual([]);
  expect(viewer.origins).toEqual(new Set([new URL(site()).origin]));
});

function rows(page: Page): Promise<string[]> {
  return page.locator("[data-row]").evaluateAll((all) => all.map((row) => (row as unknown as { dataset: { row: string } }).dataset.row));
}

/** The side bar asks for its counts after everything else of a page. */
async function hasAskedEverything(page: Page): Promise<void> {
  await page
    .getByRole("navigation", { name: "Pages" })
    .getByRole("link", { name: /Failures.*\d/ })
    .waitFor();
}

describe("Tasks", () => {
  it("keeps filters in the address: back restores them", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.getByRole("row").nth(1).waitFor();
    await page.getByRole("combobox", { name: "Search tasks" }).fill("state:failure name:shop.charge_card ");
    await page.keyboard.press("Enter");
    await page
      .getByText("PaymentGatewayTimeout")
      .or(page.locator("tr", { hasText: FAILED.slice(0, 8) }))
      .first()
      .waitFor();
    await page.waitForURL(({ search }) => search === "?status=FAILURE&name=shop.charge_card");
    await page.getByRole("button", { name: "Remove name:shop.charge_card" }).click();
    await page.waitForURL(({ search }) => search === "?status=FAILURE");
    await page.goBack();
    await page.waitForURL(({ search }) => search === "?status=FAILURE&name=shop.charge_card");
    expect(await page.getByRole("checkbox", { name: "FAILURE" }).isChecked()).toBe(true);
    await page.getByRole("button", { name: "Remove name:shop.charge_card" }).waitFor();
  });

  it("shows arguments that Celery cut like whole ones", async () => {
    const page = await viewer.open(site(), { path: `tasks?id=${FAILED}` });
    await expect.poll(() => page.locator("tr .args").innerText()).toMatch(/^order_id=12345678901234567890123, currency='EUR', items=/);
  });

  it("returns to the row that was left, and takes a chosen range along", async () => {
    const page = await viewer.open(site(), { path: "tasks?range=all" });
    const row = page.locator("[data-row]").nth(40);
    await row.scrollIntoViewIfNeeded();
    const top = await page.evaluate<number>("scrollY");
    expect(top).toBeGreaterThan(200);
    await row.locator("[data-open]").click();
    await page.waitForURL(/task\?id=/);
    await page.getByRole("heading", { name: "Timeline" }).waitFor();
    await page.goBack();
    await expect.poll(() => page.evaluate<number>("scrollY")).toBe(top);
    await page
      .getByRole("navigation", { name: "Pages" })
      .getByRole("link", { name: /Failures/ })
      .click();
    await page.waitForURL(/failures\?range=all$/);
  });

  it("says at which character a search is wrong, and that nothing was found", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    const field = page.getByRole("combobox", { name: "Search tasks" });
    await field.fill("runtime:>10x");
    await field.press("Enter");
    await expectText(page, "At character 9: “x” is no unit");
    await field.fill("id:none");
    await field.press("Enter");
    await expectText(page, "Nothing found");
    await field.fill("stat:failure");
    await field.press("Enter");
    await expectText(page, "stat: is no filter, so it was looked for as text");
  });

  it("is searched, read and left with the keyboard alone", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.getByRole("row").nth(1).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type(`id:${FAILED.slice(0, 8)}`);
    await page.keyboard.press("Enter");
    await expectText(page, "in all.");
    await page.keyboard.press("Escape");
    await page.keyboard.press("j");
    await page.keyboard.press("x");
    await expectText(page, "1 selected");
    await page.keyboard.press("o");
    await page.getByRole("heading", { name: "shop.charge_card" }).waitFor();
    await page.keyboard.press("p");
    await page.getByRole("heading", { name: "shop.place_order" }).waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("f");
    await page.getByRole("heading", { name: "Failures" }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
  });

  it("chooses its range, and keeps and opens views, with a few keys", async () => {
    const page = await viewer.open(site(), { path: "tasks?status=FAILURE" });
    await page.getByRole("row").nth(1).waitFor();
    await page.keyboard.press("t");
    const range = page.getByRole("dialog", { name: "Time range" });
    // The present range has the focus, and the next one is one step away.
    await range.locator("a:focus", { hasText: "24 h" }).waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(({ search }) => search === "?status=FAILURE&range=7d");
    await range.waitFor({ state: "hidden" });
    await page.keyboard.press("v");
    await page.getByRole("textbox", { name: "Name of the view" }).and(page.locator(":focus")).waitFor();
    await page.keyboard.type("failed in a week");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "Saved views" }).waitFor({ state: "hidden" });
    await page.goto(`${site()}tasks`);
    await page.getByRole("row").nth(1).waitFor();
    await page.keyboard.press("v");
    await page.locator("a:focus", { hasText: "failed in a week" }).waitFor();
    await page.keyboard.press("Enter");
    await page.waitForURL(({ search }) => search === "?status=FAILURE&range=7d");
    await page.goto(`${site()}failures`);
    await page.getByRole("heading", { name: "Failures" }).waitFor();
    await page.keyboard.press("t");
    await page.locator("a:focus", { hasText: "24 h" }).waitFor();
    expect(viewer.complaints).toEqual([]);
  });

  it("gives the focus back to where it was when a dialog is left", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.getByRole("row").nth(1).waitFor();
    const views = page.getByRole("button", { name: "Views" });
    for (const leave of [() => page.keyboard.press("Escape"), () => views.click()]) {
      await views.click();
      await page.locator("#views :focus").waitFor();
      await leave();
      await page.getByRole("dialog", { name: "Saved views" }).waitFor({ state: "hidden" });
      await expect.poll(() => page.locator(":focus").innerText()).toBe("Views");
    }
  });

  it("asks again on the way back, also if the first answer came late", async () => {
    const page = await viewer.open(site(), { path: "about" });
    let asked = 0;
    await page.route("**/api/v1/tasks?*", async (route) => {
      asked += 1;
      if (asked === 1) await new Promise((resolve) => setTimeout(resolve, 500));
      await route.continue();
    });
    await page.goto(`${site()}tasks`);
    await page.getByRole("row").nth(1).waitFor();
    expect(asked).toBe(1);
    await page.getByRole("link", { name: "About" }).click();
    await page.getByRole("heading", { name: "About" }).waitFor();
    // An answer counts as new for a second.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await page.goBack();
    await page.getByRole("row").nth(1).waitFor();
    await expect.poll(() => asked).toBe(2);
  });

  it("selects all rows that are shown", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.locator("[data-select]").first().check();
    const selection = page.getByRole("region", { name: "Selection" });
    await selection.getByRole("button", { name: "Select all 50 shown" }).click();
    await selection.getByText("50 selected").waitFor();
    expect(await selection.getByRole("button", { name: /Select all/ }).count()).toBe(0);
  });

  it("shows older pages by address", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    const first = await page.locator("[data-row]").first().getAttribute("data-row");
    await page.getByRole("link", { name: "Older" }).click();
    await page.getByRole("link", { name: "Newest" }).waitFor();
    const shared = await viewer.open(page.url());
    await shared.getByRole("link", { name: "Newest" }).waitFor();
    await Promise.all([settle(page), settle(shared)]);
    expect(await rows(shared)).toEqual(await rows(page));
    expect(await rows(shared)).not.toContain(first);
  });

  it("changes rows as they change, and lets new ones wait", async () => {
    const id = "cccccccc-0000-4000-8000-000000000000";
    await api.insert([{ id, name: "shop.live", status: "STARTED", at: minutesAgo(0.2) }]);
    const page = await viewer.open(site(), { path: "tasks" });
    await page.locator(`[data-row="${id}"]`).getByText("STARTED").first().waitFor();
    await api.client.query("update celery_task set status = 'SUCCESS', last_event_at = now() where task_id = $1", [id]);
    await page.locator(`[data-row="${id}"]`).getByText("SUCCESS").first().waitFor();
    await api.insert([{ id: "dddddddd-0000-4000-8000-000000000000", name: "shop.live", at: new Date() }]);
    await page.getByRole("button", { name: "Show 1 new task" }).click();
    await page.locator('[data-row^="dddddddd"]').waitFor();
    expect(viewer.complaints).toEqual([]);
    await api.client.query("delete from celery_task where name = 'shop.live'");
  });

  it("asks nothing while the tab is hidden", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.locator("[data-row]").first().waitFor();
    await hasAskedEverything(page);
    await page.evaluate(
      "Object.defineProperty(document, 'hidden', { value: true }); document.dispatchEvent(new Event('visibilitychange'))",
    );
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.waitForTimeout(6_000);
    expect(asked).toEqual([]);
  });
});

describe("Live", () => {
  afterEach(() => api.client.query("delete from celery_task where name = 'shop.live'"));

  it("has a line for each change, and keeps still while somebody reads", async () => {
    const id = "eeeeeeee-0000-4000-8000-000000000000";
    const change = (status: string): Promise<unknown> =>
      api.client.query("update celery_task set status = $2, last_event_at = clock_timestamp() where task_id = $1", [id, status]);
    const page = await viewer.open(site(), { path: "live" });
    await page.mouse.move(0, 0);
    await page.locator("[data-row]").first().waitFor();
    await api.insert([{ id, name: "shop.live", status: "RECEIVED", at: new Date() }]);
    const lines = page.locator(`[data-row="${id}"]`);
    await lines.getByText("RECEIVED").waitFor();
    await change("STARTED");
    await lines.getByText("STARTED").waitFor();
    expect(await lines.getByText("RECEIVED").count()).toBe(1);
    await page.locator("[data-row]").nth(3).hover();
    const before = await rows(page);
    await change("SUCCESS");
    await page.getByRole("button", { name: "Show 1 new change" }).waitFor();
    expect(await rows(page)).toEqual(before);
    await page.mouse.move(0, 0);
    await lines.getByText("SUCCESS").waitFor();
    expect((await rows(page))[0]).toBe(id);
  });

  it("draws no more than some lines, pauses, and asks nothing meanwhile", async () => {
    const id = "ffffffff-0000-4000-8000-000000000000";
    const page = await viewer.open(site(), { path: "live" });
    await page.locator("[data-row]").first().waitFor();
    expect((await rows(page)).length).toBe(50);
    await hasAskedEverything(page);
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.keyboard.press("l");
    await page.getByRole("button", { name: "Paused" }).waitFor();
    await api.insert([{ id, name: "shop.live", status: "STARTED", at: new Date() }]);
    await page.waitForTimeout(2_500);
    expect(asked).toEqual([]);
    expect(await page.locator(`[data-row="${id}"]`).count()).toBe(0);
    await page.keyboard.press("l");
    await page.locator(`[data-row="${id}"]`).waitFor();
    expect(asked.some((url) => url.endsWith("/api/v1/counts"))).toBe(true);
  });

  it("shows only what was asked for, by address", async () => {
    const page = await viewer.open(site(), { path: "live" });
    await page.locator("[data-row]").first().waitFor();
    await page.getByRole("link", { name: "Problems" }).click();
    await page.waitForURL(({ search }) => search === "?status=FAILURE,RETRY,REVOKED,REJECTED");
    await page.locator("[data-row]").first().waitFor();
    expect(await page.locator("tbody").getByText("SUCCESS").count()).toBe(0);
  });
});

/** The cells of a row, by the head of their column, once the row is there. */
async function cells(page: Page, row: string): Promise<Readonly<Record<string, string>>> {
  const found = page.locator(`[data-row="${row}"]`);
  await found.waitFor();
  const texts = await found
    .locator("th, td")
    .evaluateAll((all) => all.map((each) => (each as unknown as { innerText: string }).innerText.trim()));
  const heads = await found
    .locator("xpath=ancestor::table[1]/thead//th")
    .evaluateAll((all) =>
      (all as unknown as { innerText: string; colSpan: number }[]).flatMap(({ innerText, colSpan }) =>
        Array.from({ length: colSpan }, () => innerText),
      ),
    );
  return Object.fromEntries(texts.map((text, index) => [heads[index] ?? "", text]));
}

const IDLE = "idle-1@atlas";
const NO_END = "1d1e0000-0000-4000-8000-000000000000";

describe("A worker whose heartbeats say that nothing runs", () => {
  it("is not said to run what has no end, on its page and on that of the task", async () => {
    await api.insert([{ id: NO_END, name: "shop.poll", worker: IDLE, queue: "polls", status: "STARTED", at: minutesAgo(5), root: NO_END }]);
    await api.client.query(
      "insert into celery_worker (hostname, heard_at, last_event_at, last_event_type, heartbeat_at, freq, active, processed, first_seen_at) values ($1, now(), now(), 'worker-heartbeat', now(), 2, 0, 9, now())",
      [IDLE],
    );
    try {
      const page = await viewer.open(site(), { path: `worker?name=${IDLE}` });
      const started = page.getByRole("region", { name: "Started, no end yet" });
      await started.locator(`[data-row="${NO_END}"]`).waitFor();
      await started.getByText("Its last heartbeat says that nothing runs").waitFor();
      await page.goto(`${site()}task?id=${NO_END}`);
      await expectText(page, "no end was reported");
      expect(await page.getByText("It runs now").count()).toBe(0);
    } finally {
      await api.client.query("delete from celery_task where task_id = $1", [NO_END]);
      await api.client.query("delete from celery_worker where hostname = $1", [IDLE]);
    }
  });

  it("that is lost has what was lost with it, up to when it fell silent", async () => {
    const page = await viewer.open(site(), { path: "worker?name=img-3@delos" });
    const row = page.getByRole("region", { name: "Lost with it" }).locator(`[data-row="${LOST}"]`);
    await row.waitFor();
    // It started 798 s ago, and its worker was heard for 78 s after that.
    expect(await row.innerText()).toMatch(/1 min 1[5-9] s|1 min 2\d s|7\d s|8\d s/);
    expect(await page.getByRole("region", { name: "Started, no end yet" }).count()).toBe(0);
    await page.goto(`${site()}tasks?worker=img-3@delos`);
    expect((await cells(page, LOST))["Run"]).toBe("–");
  });
});

describe("Workers", () => {
  it("have what failed in a day, and how many tasks they take a minute", async () => {
    const page = await viewer.open(site(), { path: "workers" });
    await page.getByRole("img", { name: "Tasks a minute over 3 hours" }).first().waitFor();
    const { rows: known } = await api.client.query<{ failed: number }>(
      "select count(*)::int as failed from celery_task where worker = 'pay-1@atlas' and status = 'FAILURE'",
    );
    const pay1 = await cells(page, "pay-1@atlas");
    expect(pay1["Failed"]).toBe(String(known[0]?.failed));
    expect(Number(pay1["Tasks a minute, 3 hours"])).toBeGreaterThan(0);
    expect((await cells(page, "search-1@delos"))["Failed"]).toBe("0");
    await expectText(page, "Had 4 tasks when it went silent");
    await page
      .locator('[data-row="pay-1@atlas"]')
      .getByRole("link", { name: pay1["Failed"] ?? "", exact: true })
      .click();
    await page.locator("[data-row]").first().waitFor();
    await page.waitForURL(({ search }) => search === "?worker=pay-1@atlas&status=FAILURE");
  });

  it("show one with what it ran, what runs against its p95, and its queues", async () => {
    const page = await viewer.open(site(), { path: "worker?name=pay-1@atlas" });
    await page.getByRole("region", { name: "Started, no end yet" }).locator("[data-row]").first().waitFor();
    expect(await page.getByRole("region", { name: "Started, no end yet" }).innerText()).toMatch(/× its p95 of/);
    expect(await page.getByRole("region", { name: "What it ran" }).innerText()).toMatch(/charge_card\s+\d+\s+\d+ %/);
    await page.getByRole("region", { name: "Tasks a minute" }).getByRole("img").waitFor();
    expect(await page.getByRole("region", { name: "Consumes" }).innerText()).toMatch(/payments\s+400\s+(?:\d+ h|\d+ min)/);
    expect(await page.getByRole("region", { name: "Recent failures" }).locator("[data-row]").count()).toBe(5);
    expect(await page.locator(".kpis").innerText()).toMatch(
      /Failed\s+[\d.]+ %\s+in the last hour; \d+ tasks? in 24 hours\s+Runtime, p95\s+[\d.]+ s/,
    );
  });
});

it("A worker's page says how far back it searched in vain", async () => {
  const page = await viewer.open(site(), { path: "about" });
  await page.route(/tasks\?worker=.*&status=FAILURE/, async (route) => {
    await sleep(500);
    await route.fulfill({ json: { items: [], next: "further", searched_to: "2026-01-31T11:58:00Z" } });
  });
  await page.goto(`${site()}worker?name=pay-1@atlas`);
  const failures = page.getByRole("region", { name: "Recent failures" });
  await expect.poll(() => failures.innerText(), { timeout: 30_000 }).toMatch(/None since .*31 Jan/);
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

async function setLength(queue: string, messages: number): Promise<void> {
  await api.client.query(
    "update celery_queue_minute set messages = $2 where queue = $1 and minute = (select max(minute) from celery_queue_minute)",
    [queue, messages],
  );
}

/** What the page says of the queue `idle`, to somebody who opens it now. */
async function idleQueue(): Promise<Readonly<Record<string, string>>> {
  const page = await viewer.open(site(), { path: "queues" });
  await page.locator('[data-row="idle"]').waitFor();
  // Without workers, nobody tells who takes from it.
  await expect.poll(async () => (await cells(page, "idle"))["Consumers"], { timeout: 15_000 }).not.toBe("?");
  return cells(page, "idle");
}

describe("Queues", () => {
  it("have their oldest task, what comes in and goes out, and what waits", async () => {
    const page = await viewer.open(site(), { path: "queues?queue=images" });
    await expectText(page, "grows by 4 a minute");
    const images = await cells(page, "images");
    expect(images["Oldest"]).toMatch(/ h | min/);
    expect(Number(images["In per minute"])).toBeGreaterThan(0);
    expect(images["Out per minute"]).toMatch(/^[\d.]+$/);
    expect(await cells(page, "exports")).toMatchObject({ Oldest: "–", "In per minute": "–", "Out per minute": "–", Balance: "steady" });
    await page.getByRole("img", { name: "Tasks a minute sent to images, and taken from it" }).waitFor();
    await page.getByText("order_id=48117").first().waitFor();
    const { rows: pending } = await api.client.query<{ n: number }>(
      "select count(*)::int as n from celery_task where queue = 'images' and status = 'PENDING'",
    );
    await expectText(page, `By events, which know ${pending[0]?.n} of 400.`);
  });

  it("go on asking what waits, and keep the rows and the focus until the answer comes", async () => {
    const page = await viewer.open(site(), { path: "queues?queue=images" });
    const oldest = page.getByText("order_id=48117").first();
    await oldest.waitFor();
    try {
      await api.insert([
        { id: "waits-longest", name: "shop.forgotten", queue: "images", status: "PENDING", worker: null, at: minutesAgo(1_200) },
      ]);
      await countTasks(api);
      await expectText(page, "forgotten");

      await page.locator('[data-row="images"] button').focus();
      const held: (() => Promise<void>)[] = [];
      await page.route(/waiting\?.*messages=399/, (route) => void held.push(() => route.continue()));
      const asked = page.waitForRequest(/waiting\?.*messages=399/);
      await setLength("images", 399);
      await asked;
      expect(await oldest.isVisible()).toBe(true);
      // Now it is the last of the list.
      expect((await rows(page)).at(-1)).toBe("images");
      expect(await page.evaluate("document.activeElement.closest('[data-row]')?.dataset.row")).toBe("images");
      await Promise.all(held.map((go) => go()));
    } finally {
      await setLength("images", 400);
      await api.client.query("delete from celery_task where task_id = 'waits-longest'");
      await countTasks(api);
    }
  });

  it("never say that one keeps up whose workers have stopped, or are silent", async () => {
    await api.client.query(
      "insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max) select date_trunc('minute', now()) - age * interval '1 minute', 'idle', now() - age * interval '1 minute', 0, 0 from generate_series(0, 20) age",
    );
    await api.client.query(
      "create temp table workers_before as select * from celery_worker; create temp table listening_before as select * from celery_listening",
    );
    try {
      await api.client.query("update celery_worker set queues = '{idle}'");
      await expect.poll(idleQueue, { timeout: 10_000 }).toMatchObject({ Balance: "keeps up", Consumers: "3" });
      // While it is not known that receivers listened, they are not lost.
      await api.client.query("delete from celery_listening");
      await api.client.query(
        "update celery_worker set heard_at = now() - interval '70 seconds', queues_at = null, stats_at = null where last_event_type = 'worker-heartbeat'",
      );
      await expect
        .poll(idleQueue, { timeout: 10_000 })
        .toMatchObject({ Balance: expect.stringMatching(/^no word from its workers for \d+ (s|min)$/) });
      await api.client.query("update celery_worker set heard_at = now(), last_event_type = 'worker-offline'");
      await expect.poll(idleQueue, { timeout: 10_000 }).toMatchObject({ Balance: "nobody takes from it", Consumers: "none" });
    } finally {
      await api.client.query("delete from celery_queue_minute where queue = 'idle'");
      await api.client.query(
        "update celery_worker set queues = old.queues, queues_at = old.queues_at, stats_at = old.stats_at, last_event_type = old.last_event_type, heard_at = old.heard_at from workers_before old where celery_worker.hostname = old.hostname; drop table workers_before; insert into celery_listening select * from listening_before on conflict do nothing; drop table listening_before",
      );
    }
  });

  it("say who left a queue that nobody takes from", async () => {
    await api.client.query("update celery_worker set queues = '{exports}', queues_at = now() where hostname <> 'pay-1@atlas'");
    await api.client.query("update celery_worker set queues = '{mail}' where hostname not in ('pay-1@atlas', 'export-1@delos')");
    try {
      const page = await viewer.open(site(), { path: "queues?queue=exports" });
      await expectText(page, "Nobody takes from exports");
      await expectText(page, "Its last consumer");
      await expectText(page, "went offline");
      await page.getByRole("link", { name: "export-1@delos" }).first().waitFor();
      expect(await cells(page, "exports")).toMatchObject({ Balance: "nobody takes from it", Consumers: "none" });
      await api.client.query("update celery_worker set queues = '{mail}' where hostname <> 'pay-1@atlas'");
      await expectText(await viewer.open(site(), { path: "queues?queue=exports" }), "No worker takes from it.");
    } finally {
      await api.client.query("update celery_worker set queues = null, queues_at = null where hostname <> 'pay-1@atlas'");
    }
  });
});

describe("Failures", () => {
  it("tell which groups are new, which go on, and where they failed", async () => {
    const page = await viewer.open(site(), { path: "failures" });
    await page.locator("[data-row]").first().waitFor();
    const all = await rows(page);
    const group = page.locator("[data-row]").filter({ hasText: "charge_card" }).filter({ hasText: "StockConflict" });
    expect(await group.innerText()).toMatch(/5 d ago/);
    expect(await group.getByText("new today").count()).toBe(0);
    await page.getByRole("link", { name: /^New today/ }).click();
    await group.waitFor({ state: "detached" });
    expect(await rows(page)).toHaveLength(all.length - 1);
    expect(await page.locator("[data-row]").getByText("new today").count()).toBe(all.length - 1);
    await page.getByRole("link", { name: /^Quiet/ }).click();
    await page.locator("[data-row]").filter({ hasText: "UnidentifiedImageError" }).waitFor({ state: "detached" });
    const quiet = await rows(page);
    await page.getByRole("link", { name: /^Going on/ }).click();
    await page.locator("[data-row]").filter({ hasText: "UnidentifiedImageError" }).waitFor();
    expect([...quiet, ...(await rows(page))].toSorted()).toEqual(all.toSorted());
    await page.waitForURL(({ search }) => search === "?show=active");
    await page.locator("summary").filter({ hasText: "UnidentifiedImageError" }).click();
    await page.getByRole("link", { name: "img-1@corvo" }).waitFor();
    const heading = { name: "At which attempt it ended" };
    await page.getByRole("heading", heading).waitFor();
    // Which groups are open is in the address.
    const shared = await viewer.open(page.url());
    await shared.getByRole("heading", heading).waitFor();
    await page.getByRole("link", { name: "img-1@corvo" }).click();
    await page.getByRole("heading", { name: "img-1@corvo" }).waitFor();
    await page.goBack();
    await page.getByRole("heading", heading).waitFor();
    await page.locator("summary").filter({ hasText: "UnidentifiedImageError" }).click();
    await page.getByRole("heading", heading).waitFor({ state: "detached" });
    await page.waitForURL(({ search }) => search === "?show=active");
  });

  it("say that the task with the traceback was deleted", async () => {
    const page = await viewer.open(site(), { path: "about" });
    await page.route(/api\/v1\/tasks\/[^/?]+$/, (route) => route.fulfill({ status: 404, json: { status: 404, title: "Not Found" } }));
    await page.goto(`${site()}failures`);
    await page.locator("summary").filter({ hasText: "UnidentifiedImageError" }).click();
    await expectText(page, "This task has been deleted.");
    await page.unrouteAll({ behavior: "ignoreErrors" });
  });
});

function runs(name: string, runtime: number, days: number): TaskFields[] {
  return Array.from({ length: 20 }, (_, index) => ({ id: `${name}-${days}-${index}`, name, runtime, at: minutesAgo(days * 1_440 + 90) }));
}

describe("Task types", () => {
  afterEach(async () => {
    await api.client.query("delete from celery_task where name like 'trend.%'");
    await countTasks(api);
  });

  it("have rates over the time of which something is known", async () => {
    await api.client.query("create temp table minutes_before as select * from celery_task_minute");
    await api.client.query("create temp table periods_before as select * from celery_task_period");
    try {
      // Whole hours: those that are over are sums already.
      const begin = "date_trunc('hour', now() - interval '10 minutes')";
      await api.client.query(`delete from celery_task_minute where minute < ${begin}`);
      await api.client.query(`delete from celery_task_period where at < ${begin}`);
      const page = await viewer.open(site(), { path: "types" });
      await expectText(page, "min since the first task was counted");
      const text = await page.getByText("since the first task was counted").innerText();
      const minutes = Number(/over the (\d+) min/.exec(text)?.[1]);
      expect(minutes).toBeLessThanOrEqual(71);
      const { rows: counted } = await api.client.query<{ n: number }>(
        "select sum(n)::int as n from celery_task_minute where name = 'shop.resize_image'",
      );
      const row = await cells(page, "shop.resize_image");
      expect(Number(row["A minute"])).toBeGreaterThan(((counted[0]?.n ?? 0) / minutes) * 0.8);
    } finally {
      await api.client.query(
        "delete from celery_task_minute; delete from celery_task_period; insert into celery_task_minute select * from minutes_before; insert into celery_task_period select * from periods_before; drop table minutes_before, periods_before",
      );
    }
  });

  it("are sorted, narrowed down, and compared with a week before", async () => {
    await api.insert([
      ...runs("trend.slower", 3, 0),
      ...runs("trend.slower", 2, 7),
      ...runs("trend.faster", 1, 0),
      ...runs("trend.faster", 2, 7),
    ]);
    await countTasks(api);
    const page = await viewer.open(site(), { path: "types" });
    await page.locator('[data-row="trend.slower"]').getByText("+50 %").waitFor();
    await page.locator('[data-row="trend.faster"]').getByText("−50 %").waitFor();
    await expectText(page, "mean run time against a week before");
    await page.getByRole("link", { name: "Trend", exact: true }).click();
    await page.locator("th[aria-sort=descending]", { hasText: "Trend" }).waitFor();
    expect((await rows(page)).slice(0, 2)).toEqual(["trend.slower", "trend.faster"]);
    await page.getByRole("link", { name: "Slower 1" }).click();
    await page.locator('[data-row="trend.faster"]').waitFor({ state: "detached" });
    expect(await rows(page)).toEqual(["trend.slower"]);
    await page.getByRole("link", { name: /^Failing/ }).click();
    await page.locator('[data-row="shop.charge_card"]').waitFor();
    expect(await rows(page)).not.toContain("shop.place_order");
  });
});

it("Overview tells slots only if those of every worker are known", async () => {
  const page = await viewer.open(site());
  const running = page.locator(".kpi", { hasText: "Running" }).locator("dd").first();
  await expect.poll(() => running.innerText()).toBe("12 tasks");
  await page.route(/api\/v1\/workers$/, async (route) => {
    const list = (await (await route.fetch()).json()) as { readonly items: readonly object[] };
    await route.fulfill({ json: { ...list, items: list.items.map((worker) => ({ ...worker, concurrency: 8 })) } });
  });
  await page.reload();
  await expect.poll(() => running.innerText()).toBe("12 of 24 slots");
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

it("Overview says how many tasks lack a queue even if they are few", async () => {
  const page = await viewer.open(site(), { path: "about" });
  let [lacking, cut] = [3, 0];
  await page.route(/health-of-data/, async (route) => {
    const health = (await (await route.fetch()).json()) as object;
    await route.fulfill({
      json: {
        ...health,
        tasks: 1_000,
        without_queue: lacking,
        cut,
        without_start: 0,
        without_end: 0,
        silent_workers: [],
        rolled_up_at: new Date(),
        lag: 0,
      },
    });
  });
  await page.goto(site());
  await expectText(page, "Hardly anything is missing");
  await expectText(page, "0.3 % of the newest 1,000 tasks have no queue.");
  [lacking, cut] = [0, 1];
  await page.reload();
  await expectText(page, "1 of the newest 1,000 tasks has arguments that Celery cut");
  cut = 0;
  await page.reload();
  await expectText(page, "Nothing is missing");
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

it("About tells versions, roles, settings without secrets, and the health of the data", async () => {
  const page = await viewer.open(site(), { path: "about" });
  for (const text of ["5.6.3", "on 4 workers", "may act on tasks and workers", "have no queue", "WEB_PORT", "Last counted"])
    await expectText(page, text);
  expect(await page.locator("main").innerText()).not.toMatch(/password@|:postgres@/);
});

describe("Task", () => {
  it("shows arguments with all digits, the end of the traceback, its tree, and why actions are off", async () => {
    const page = await viewer.open(site(), { path: `task?id=${FAILED}` });
    await page.getByText("12345678901234567890123").first().waitFor();
    await page.getByText("True", { exact: true }).waitFor();
    expect(await page.getByLabel("Traceback").last().innerText()).not.toContain("site-packages");
    await page.getByRole("button", { name: "Show 1 frame of libraries" }).click();
    expect(await page.getByLabel("Traceback").last().innerText()).toContain("site-packages");
    await expectText(page, "30 ×");
    await expectText(page, "3 failed");
    await expectText(page, "app.amqp.kwargsrepr_maxsize = 8192");
    await expectText(page, "2 of 3 are stored");
    const revoke = page.getByRole("button", { name: "Revoke" });
    expect(await revoke.getAttribute("aria-disabled")).toBe("true");
    await expectText(page, "This version only reads");
    await page.getByRole("link", { name: "Root" }).click();
    await page.waitForURL(({ searchParams }) => searchParams.get("id") === ROOT);
  });

  it("shows one that is lost as lost in its tree too, with the time of its last event", async () => {
    const page = await viewer.open(site(), { path: `task?id=${LOST}` });
    await page.getByText(/^last event 1\d min ago$/).waitFor();
    await page.getByRole("region", { name: "Tree" }).locator(".node.s-lost.here").waitFor();
    expect(await page.getByRole("region", { name: "Timeline" }).locator("header p").innerText()).toBe("waited 2 s");
  });

  it("shows each attempt with its own traceback and worker, by address", async () => {
    const page = await viewer.open(site(), { path: `task?id=${RETRIED}` });
    const attempts = page.getByRole("region", { name: "Attempts" });
    await attempts.getByText("BadFeed: line 7").waitFor();
    await attempts.getByText("Attempt 2").click();
    await attempts.getByText("DiskFull: no space left on /srv/feeds").waitFor();
    expect(await attempts.getByText("BadFeed: line 7").count()).toBe(0);
    await attempts.getByText("ran 3 s").waitFor();
    const shared = await viewer.open(page.url());
    await shared.getByRole("region", { name: "Attempts" }).getByText("DiskFull: no space left on /srv/feeds").waitFor();
    expect(await page.getByRole("region", { name: "Timeline" }).locator("li").allInnerTexts()).toEqual([
      expect.stringMatching(/Sent to payments/),
      expect.stringMatching(/Received by pay-1@atlas/),
      expect.stringMatching(/Attempt 1\s+started[^]*waited 500 ms/),
      expect.stringMatching(/Retry after FeedTimeout[^]*ran 10 s/),
      expect.stringMatching(/Received by img-1@corvo/),
      expect.stringMatching(/Attempt 2\s+started[^]*backed off or waited 21 s/),
      expect.stringMatching(/Retry after DiskFull[^]*ran 3 s/),
      expect.stringMatching(/Received by pay-1@atlas/),
      expect.stringMatching(/Attempt 3\s+started[^]*backed off or waited 38 s/),
      expect.stringMatching(/Failed with BadFeed[^]*ran 1 s/),
    ]);
    // The waiting time is the same everywhere.
    await attempts.locator("summary", { hasText: "Attempt 1" }).getByText("waited 500 ms").waitFor();
    expect(await page.getByRole("region", { name: "Details" }).innerText()).toMatch(/Wait\s+500 ms/);
    const parts = "waited 500 ms, between attempts 59 s, ran 14 s";
    await page.getByRole("img", { name: `In 1 min 13 s: ${parts}.` }).waitFor();
    await page.getByRole("region", { name: "Tree" }).getByRole("img", { name: parts }).waitFor();
    await attempts.getByRole("link", { name: "img-1@corvo" }).click();
    await page.getByRole("heading", { name: "img-1@corvo" }).waitFor();
  });

  it("tells what may be the body of a chord, on the page of each of its tasks", async () => {
    for (const [id, text] of [
      [
        BODY,
        /^This may be the body of a chord of tasks that shop\.place_order sent\. It was sent as shop\.resize_image ended, and 27 tasks had succeeded by then/,
      ],
      [ROOT, /^shop\.pack_album may be the body of a chord of tasks that shop\.place_order sent/],
      [PART, /^shop\.pack_album may be the body of a chord of tasks that shop\.place_order sent/],
    ] as const) {
      const page = await viewer.open(site(), { path: `task?id=${id}` });
      const tree = page.getByRole("region", { name: "Tree" });
      expect(await page.getByRole("region", { name: "Chord" }).innerText()).toMatch(text);
      expect(await tree.locator(".node", { hasText: "shop.pack_album" }).textContent()).toContain("perhaps a chord’s body");
    }
  });

  it("leads to the group of those that failed like it", async () => {
    const page = await viewer.open(site(), { path: `task?id=${FAILED_ALONE}` });
    await page.getByRole("link", { name: "open their group" }).click();
    await page.getByRole("heading", { name: "At which attempt it ended" }).waitFor();
    expect(await page.locator("details[open]").innerText()).toMatch(/^shop\.charge_card[^]*StockConflict/);
    // A rare one may be missing among all others.
    expect(new URL(page.url()).searchParams.get("name")).toBe("shop.charge_card");
  });

  it("that no task sent leads to those that were sent with it, and says nothing of chords", async () => {
    const page = await viewer.open(site(), { path: `task?id=${FAILED_ALONE}` });
    const note = page.getByRole("region", { name: "Tree" }).locator("p", { hasText: "Not sent by another task" });
    expect(await note.innerText()).not.toContain("chord");
    await note.getByRole("link", { name: "sent at the same time" }).click();
    await page.locator(`[data-row="${FAILED_ALONE}"]`).waitFor();
  });

  it("asks for itself once, before the scripts are there", async () => {
    const page = await viewer.open(site(), { path: "about" });
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    for (const [path, question] of [
      ["tasks?status=FAILURE", "/api/v1/tasks"],
      [`task?id=${FAILED}`, `/api/v1/tasks/${FAILED}`],
    ] as const) {
      asked.length = 0;
      await page.goto(`${site()}${path}`);
      await page.locator("[data-row], main h1").first().waitFor();
      await settle(page);
      expect(asked.filter((one) => one === question)).toEqual([question]);
      expect(asked.indexOf(question)).toBeLessThan(asked.indexOf("/api/v1/me"));
    }
  });

  it("is found by its worker being gone, and shown as lost everywhere", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await page.locator("[data-row]").first().waitFor();
    await page.getByRole("checkbox", { name: "LOST" }).click();
    await page.getByRole("button", { name: "Remove is:lost" }).waitFor();
    await page.waitForURL(({ search }) => search === "?lost=true");
    await page.locator(`[data-row="${LOST}"]`).getByText("LOST").first().waitFor();
    expect(await rows(page)).toEqual([LOST]);
    await page.locator("[data-open]").first().click();
    await expectText(page, "fell silent while it had this task");
    await page.getByRole("region", { name: "Attempts" }).getByText("LOST").waitFor();
  });

  it("says that a task is not known", async () => {
    const page = await viewer.open(site(), { path: "task?id=none" });
    await expectText(page, "This task is not known");
  });
});

/** How long the range of the address is, in minutes. A pixel is some minutes, and the strip begins at a whole quarter of an hour. */
function rangeOf(page: Page): number {
  const { searchParams } = new URL(page.url());
  return (Date.parse(searchParams.get("to") ?? new Date().toISOString()) - Date.parse(searchParams.get("from") ?? "")) / 60_000;
}

interface Strip {
  readonly y: number;
  /** The place of a share of the time that it shows. */
  readonly at: (share: number) => number;
}

async function stripOf(page: Page): Promise<Strip> {
  await page.getByRole("img", { name: /tasks, \d+ of them failed/ }).waitFor();
  await settle(page);
  const { x, y, width, height } = (await page.locator(".brush").boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
  return { y: y + height / 2, at: (share) => x + width * share };
}

async function drag(page: Page, from: number, to: number): Promise<void> {
  const { y, at } = await stripOf(page);
  await page.mouse.move(at(from), y);
  await page.mouse.down();
  await page.mouse.move(at((from + to) / 2), y);
  await page.mouse.move(at(to), y);
  await page.mouse.up();
}

describe("the brush", () => {
  it.each(["", "tasks"])("of the page “%s” chooses a range of the last 24 hours, which back takes away", async (path) => {
    const page = await viewer.open(site(), { path });
    await drag(page, 0.5, 0.8);
    await page.waitForURL(/from=.*to=/);
    expect(rangeOf(page)).toBeCloseTo(0.3 * 1_440, -2);
    await page.getByRole("slider", { name: "Shown time" }).waitFor();
    await page.goBack();
    await page.getByText("Drag to choose a time range").waitFor();
    await page.waitForURL(({ search }) => search === "");
  });

  it("shows only tasks of the chosen range", async () => {
    const page = await viewer.open(site(), { path: "tasks" });
    await drag(page, 0.5, 0.95);
    await page.waitForURL(/from=.*to=/);
    await page.locator("[data-row]").first().waitFor();
    await settle(page);
    const to = new URL(page.url()).searchParams.get("to") ?? "";
    const seen = await page.locator("[data-row] time").evaluateAll((all) => all.map((time) => time.getAttribute("datetime") ?? ""));
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.filter((time) => Date.parse(time) > Date.parse(to))).toEqual([]);
  });

  it("moves its window, and an end of it that stays at now stays there", async () => {
    const page = await viewer.open(site());
    await drag(page, 1 - 1.5 / 24, 0.5);
    await page.waitForURL(/from=.*to=/);
    expect(rangeOf(page)).toBeCloseTo(180, -2);
    await drag(page, 0.5 + 1.5 / 24, 1);
    await page.waitForURL(({ search }) => search.includes("from=") && !search.includes("to="));
    expect(rangeOf(page)).toBeCloseTo(0.5 * 1_440 + 90, -2);
    await page
      .getByText(/ to now/)
      .first()
      .waitFor();
  });

  it("is moved with the keyboard, which escape takes back", async () => {
    const page = await viewer.open(site());
    await stripOf(page);
    const from = page.getByRole("slider", { name: "From", exact: true });
    const before = await from.getAttribute("aria-valuetext");
    await from.focus();
    await page.keyboard.press("PageDown");
    expect(await from.getAttribute("aria-valuetext")).not.toBe(before);
    await page.keyboard.press("Escape");
    expect(await from.getAttribute("aria-valuetext")).toBe(before);
    for (let press = 0; press < 4; press += 1) await page.keyboard.press("ArrowLeft");
    await page.waitForURL(/from=/);
    expect(rangeOf(page)).toBeCloseTo(180 + 4 * 15, -1);
    await page.getByRole("slider", { name: "Shown time" }).focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("Enter");
    await page.waitForURL(/from=.*to=/);
    expect(rangeOf(page)).toBeCloseTo(180 + 4 * 15, -1);
    await page.getByRole("slider", { name: "To", exact: true }).focus();
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    // Everything of the 24 hours that it shows.
    await page.waitForURL(/\?range=24h$/);
  });

  it("is drawn with a finger", async () => {
    const page = await viewer.open(site(), { width: 390, path: "tasks" });
    const { y, at } = await stripOf(page);
    const session = await page.context().newCDPSession(page);
    await session.send("Emulation.setTouchEmulationEnabled", { enabled: true });
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", share?: number): Promise<unknown> =>
      session.send("Input.dispatchTouchEvent", { type, touchPoints: share === undefined ? [] : [{ x: at(share), y }] });
    await touch("touchStart", 0.2);
    for (const share of [0.3, 0.5, 0.6]) await touch("touchMove", share);
    await touch("touchEnd");
    await page.waitForURL(/from=.*to=/);
    // A pixel is four minutes.
    expect(rangeOf(page)).toBeCloseTo(0.4 * 1_440, -2);
  });

  it("counts only what the filters leave, and says what was not searched yet", async () => {
    const page = await viewer.open(site(), { path: "tasks?status=FAILURE" });
    await page.getByRole("img", { name: /^(\d+) tasks, \1 of them failed$/ }).waitFor();
    const searched_to = minutesAgo(700).toISOString();
    await page.route("**/api/v1/tasks?**", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await route.fulfill({ json: { items: [], next: "next", searched_to } });
    });
    await page.getByRole("checkbox", { name: "RETRY" }).click();
    await expectText(page, "not searched yet");
    await expectText(page, "Nothing found, so far");
    await page.unrouteAll({ behavior: "ignoreErrors" });
  });
});

describe("the side bar", () => {
  it("counts what needs a look, with one question that comes after those of the page", async () => {
    const page = await viewer.open(site(), { path: "about" });
    await page.goto("about:blank");
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(`${site()}tasks`);
    const side = page.getByRole("navigation", { name: "Pages" });
    await side
      .getByRole("link", { name: /Workers/ })
      .getByText("1 lost")
      .waitFor();
    await side
      .getByRole("link", { name: /Queues/ })
      .getByText("1 grows")
      .waitFor();
    const failures = await side.getByRole("link", { name: /Failures/ }).innerText();
    await page.getByRole("link", { name: /notes? on this data/ }).waitFor();
    expect(asked.filter((path) => path === "/api/v1/counts")).toHaveLength(1);
    expect(asked.indexOf("/api/v1/counts")).toBeGreaterThan(asked.indexOf("/api/v1/tasks"));
    expect(asked).not.toContain("/api/v1/workers");
    await side.getByRole("link", { name: /Failures/ }).click();
    await page.locator("main .grp").first().waitFor();
    expect(failures).toContain(String(await page.locator("main .grp").count()));
  });

  it("asks nothing in a hidden tab", async () => {
    const page = await viewer.open(site(), { path: "about" });
    await page.goto("about:blank");
    await page.addInitScript("Object.defineProperty(document, 'hidden', { value: true })");
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(`${site()}tasks`);
    await page.getByRole("link", { name: "Queues" }).waitFor();
    await page.waitForTimeout(1_500);
    expect(asked.filter((path) => path.startsWith("/api/"))).toEqual([]);
  });
});

it("says that a page does not exist, and where one can go, below any path", async () => {
  for (const path of ["taskz", "constructor", "celery/taskz?range=1h"]) {
    const page = await viewer.open(site(), { path });
    await expectText(page, "There is no such page");
    await page.getByRole("main").getByRole("link", { name: "Workers" }).click();
    await page.getByRole("heading", { name: "Workers", exact: true }).waitFor();
  }
  expect(viewer.complaints).toEqual([expect.stringContaining("404"), expect.stringContaining("404"), expect.stringContaining("404")]);
});

it("keeps the chosen theme", async () => {
  const page = await viewer.open(site(), { isNew: true });
  await page.getByRole("button", { name: "Switch between light and dark" }).click();
  await page.reload();
  expect(await page.evaluate("document.documentElement.dataset.theme")).toBe("dark");
});

describe.each(["keeps", "strips"] as const)("behind a proxy that %s its prefix", (what) => {
  it("works without a setting", async () => {
    const proxy = await startProxy(site(), { prefix: "/celery/prod", strips: what === "strips" });
    try {
      const page = await viewer.open(`${proxy.url}/celery/prod/`);
      await page.getByText("StockConflict").first().waitFor();
      await page.getByRole("link", { name: "Tasks", exact: true }).click();
      await page.locator("[data-row]").first().waitFor();
      await page.reload();
      await page.locator("[data-open]").first().click();
      await page.getByRole("heading", { name: "Timeline" }).waitFor();
      await page.waitForURL(({ pathname }) => pathname === "/celery/prod/task");
      expect(viewer.complaints).toEqual([]);
    } finally {
      await proxy.stop();
    }
  });
});

describe("while the server is gone", () => {
  const prefix = "/celery";

  /** Opens a page, stops the server under it, does something, and starts the server again. */
  async function withoutServer(path: string, act: (page: Page, restart: () => Promise<void>) => Promise<void>): Promise<void> {
    let proxy = await startProxy(site(), { prefix, strips: true });
    const port = Number(new URL(proxy.url).port);
    try {
      const page = await viewer.open(`${proxy.url}${prefix}/`, { path, isNew: true });
      await page.locator("[data-row]").first().waitFor();
      await hasAskedEverything(page);
      await proxy.stop();
      await act(page, async () => {
        proxy = await startProxy(site(), { prefix, strips: true, port });
      });
    } finally {
      await proxy.stop().catch(() => {});
    }
  }

  it.each(["tasks", "live"])("%s says so, and goes on by itself afterwards", async (path) => {
    await withoutServer(path, async (page, restart) => {
      await page.getByRole("alert").getByText("The server does not answer.").waitFor();
      await page.getByRole("button", { name: "No answer" }).waitFor();
      await page.locator(".side").getByText("No answer").waitFor();
      expect(await page.locator(".side").getByText("behind").count()).toBe(0);
      await restart();
      await page.getByRole("alert").waitFor({ state: "detached" });
      await page.locator(".side").getByText("behind").waitFor();
      await page.getByRole("button", { name: "Live", exact: true }).waitFor();
    });
  });

  it("a page whose files are not there yet keeps its title, and comes by itself", async () => {
    await withoutServer("tasks", async (page, restart) => {
      await page.getByRole("link", { name: "Failures" }).click();
      await page.getByRole("alert").getByText("The server does not answer.").waitFor();
      await page.getByRole("heading", { name: "Failures", level: 1 }).waitFor();
      await restart();
      await page.getByText("StockConflict").first().waitFor();
      expect(new URL(page.url()).pathname).toBe(`${prefix}/failures`);
    });
  });
});

describe("hostile data", () => {
  const HOSTILE = `<img src=x onerror=alert(1)>"'\u202Egnp.exe {{7*7}} </script><script>alert(1)</script> ${"🦀".repeat(20)}${"W".repeat(300)}`;
  const ID = "<svg/onload=alert(1)>/../__proto__?#%00";

  it("executes nothing and breaks no layout", async () => {
    await api.insert([
      {
        id: ID,
        name: HOSTILE,
        queue: HOSTILE,
        worker: HOSTILE,
        status: "FAILURE",
        args: `('${HOSTILE}',)`,
        kwargs: "{'__proto__': 1}",
        args_json: JSON.stringify([HOSTILE]),
        kwargs_json: '{"__proto__": {"x": 1}, "constructor": "<b>"}',
        exception: `Evil("${HOSTILE}")`,
        traceback: `Traceback\n  File "${HOSTILE}", line 1, in ${HOSTILE}\n    ${HOSTILE}\nEvil: ${HOSTILE.repeat(50)}`,
        at: new Date(),
      },
    ]);
    try {
      for (const path of [
        // Nobody has asked this in the second before, whose answer would be shared.
        "tasks?range=1h",
        `task?id=${encodeURIComponent(ID)}`,
        "failures",
        "types",
        "live",
        `worker?name=${encodeURIComponent(HOSTILE)}`,
      ]) {
        const page = await viewer.open(site(), { path });
        await page.getByText("onerror=alert(1)").first().waitFor({ state: "attached" });
        if (path === "failures") await page.locator("summary").first().click();
        for (const width of WIDTHS) {
          await resize(page, width);
          await settle(page);
          expect([path, width, await overflowOf(page)]).toEqual([path, width, 0]);
        }
        expect(await page.locator("img, script:not([src])").count()).toBe(0);
      }
      expect(viewer.complaints).toEqual([]);
    } finally {
      await api.client.query("delete from celery_task where task_id = $1", [ID]);
    }
  });
});

describe("what nobody expects", () => {
  it("times in the address that are none count as absent", async () => {
    const reversed = "tasks?from=2026-01-02T00:00:00Z&to=2020-01-01T00:00:00Z";
    for (const path of ["tasks?from=yesterday", "tasks?range=week", "?from=yesterday", "failures?to=2026-13-01", reversed]) {
      const page = await viewer.open(site(), { path, width: 390 });
      await page.locator("[data-row]").first().waitFor({ state: "attached" });
      await page.close();
    }
    // What is asked before the scripts are there is asked as the address has it.
    expect(viewer.complaints.filter((text) => !text.includes("a status of 400"))).toEqual([]);
  });

  it("names that are one long word break no layout", async () => {
    const long = "x".repeat(200);
    const client = api.client;
    const names = { name: long, queue: long, at: minutesAgo(1) };
    await api.insert([
      { id: "long-failed", ...names, worker: long, status: "FAILURE", exception: `${long}('${long}')` },
      { id: "long-waits", ...names, worker: null, status: "PENDING" },
    ]);
    await client.query(
      "insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max, consumers) values (date_trunc('minute', now()), $1, now(), 1, 1, 0)",
      [long],
    );
    await client.query(
      "insert into celery_worker (hostname, heard_at, first_seen_at, last_event_at, last_event_type, queues) values ($1, now() - interval '5 minutes', now(), now(), 'worker-heartbeat', array[$1])",
      [long],
    );
    try {
      for (const path of ["failures", `queues?queue=${long}`, "workers", `worker?name=${long}`, "types", "task?id=long-failed"]) {
        const page = await viewer.open(site(), { path });
        await page.getByText(long).first().waitFor({ state: "attached" });
        if (path === "failures") await page.locator("summary", { hasText: long }).click();
        for (const width of [1_440, 390, 320]) {
          await resize(page, width);
          await settle(page);
          expect([path.slice(0, 20), width, await overflowOf(page)]).toEqual([path.slice(0, 20), width, 0]);
        }
        await page.close();
      }
    } finally {
      await client.query("delete from celery_task where task_id in ('long-failed', 'long-waits')");
      await client.query("delete from celery_queue_minute where queue = $1", [long]);
      await client.query("delete from celery_worker where hostname = $1", [long]);
    }
  });

  it("an answer that lacks what a page shows does not leave it half drawn", async () => {
    const page = await viewer.open(site(), { path: "about", isNew: true });
    await page.route(/api\/v1\/(queues|counts)/, (route) => route.fulfill({ status: 200, contentType: "application/json", body: "{}" }));
    await page.goto(`${site()}queues`);
    await page.getByText("This page could not be loaded").waitFor();
    await page.getByRole("link", { name: "Tasks", exact: true }).click();
    await page.locator("[data-row]").first().waitFor();
    expect(await page.getByText("This page could not be loaded").count()).toBe(0);
  });
});
