import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExactNumber, parseExact } from "../client/api/exact.ts";
import { clockTime, compact, duration, exactTime, number, percent, shortTime } from "../client/parts/format.ts";
import { accept, filtersOf, parseSearch, suggestionsFor, withFilters, withoutFilter } from "../client/parts/search.ts";
import { ticksOf } from "../client/parts/ticks.ts";
import { withoutPrefix } from "../src/page.ts";

function searched(typed: string, before = ""): string {
  const { filters, problem } = parseSearch(typed);
  expect(problem).toBeUndefined();
  return decodeURIComponent(withFilters(new URLSearchParams(before), filters).toString()).replaceAll("+", " ");
}

describe("the lines of a chart", () => {
  it.each([
    [1_900, 2, [0, 1_800, 3_600]],
    [2_000, 2, [0, 1_800, 3_600]],
    [130, 5, [0, 30, 60, 90, 120, 150]],
    [7_000, 5, [0, 1_800, 3_600, 5_400, 7_200]],
    [40_000, 5, [0, 10_800, 21_600, 32_400, 43_200]],
    [400_000, 5, [0, 86_400, 172_800, 259_200, 345_600, 432_000]],
    [0.3, 2, [0, 0.2, 0.4]],
  ])("of %d s are at round times", (most, lines, expected) => {
    expect(ticksOf(most, lines, true)).toEqual(expected);
  });

  it("of counts are at round numbers", () => {
    expect(ticksOf(130, 5)).toEqual([0, 50, 100, 150]);
  });
});

describe("the search bar", () => {
  it.each([
    ["state:failure", "status=FAILURE"],
    ["state:failure,retry", "status=FAILURE,RETRY"],
    ["state:sent", "status=PENDING"],
    ["name:shop.* queue:images", "name=shop.*&queue=images"],
    ["name:a name:b", "name=a&name=b"],
    ["runtime:>10s wait:5m retries:>=2", "runtime_min=10&wait_min=300&retries_min=2"],
    ["runtime:500ms", "runtime_min=0.5"],
    ["kwargs.customer_id:1234 args.0:x", "kwargs.customer_id=1234&args.0=x"],
    ["kwargs.full=True args.0=x", "kwargs.full=True&args.0=x"],
    ["full=True", "text=full=True"],
    ['exception:"read timed out"', "exception=read timed out"],
    ['kwargs.note:"say \\"hi\\""', 'kwargs.note=say "hi"'],
    ["any text here", "text=any text here"],
    ["http://example.com/a", "text=http://example.com/a"],
    ["order:12", "text=order:12"],
    ["is:lost name:a", "lost=true&name=a"],
  ])("reads %s", (typed, expected) => {
    expect(searched(typed)).toBe(expected);
  });

  it("adds to the filters of the address, and begins at the first page", () => {
    expect(searched("state:retry name:b", "status=FAILURE&name=a&cursor=abc&range=7d")).toBe("status=FAILURE,RETRY&name=a&range=7d&name=b");
  });

  it.each([
    ["runtime:>10x", 9, "“x” is no unit"],
    ["name:a wait:soon", 13, "“soon” is no time"],
    ["state:broken", 7, "“broken” is no state"],
    ["is:gone", 4, "“is:gone” is not known. There is is:lost."],
    ["is:stuck", 4, "among state:started"],
    ["retries:many", 9, "“many” is no number"],
  ])("says where %s is wrong", (typed, at, message) => {
    const { problem } = parseSearch(typed);
    expect(problem).toMatchObject({ at, message: expect.stringContaining(message) as string });
  });

  it("shows the filters of an address as they are written, and takes each of them away", () => {
    const query = new URLSearchParams("status=FAILURE,PENDING&name=a&name=b&runtime_min=90&kwargs.id=7&range=7d");
    const shown = filtersOf(query).map(({ qualifier, value }) => `${qualifier}:${value}`);
    expect(shown).toEqual(["state:failure", "state:sent", "name:a", "name:b", "runtime:>1 min 30 s", "kwargs.id:7"]);
    const without = filtersOf(query).map((filter) => decodeURIComponent(withoutFilter(query, filter).toString()));
    expect(without[0]).toBe("name=a&name=b&runtime_min=90&kwargs.id=7&range=7d&status=PENDING");
    expect(without[2]).toBe("status=FAILURE,PENDING&runtime_min=90&kwargs.id=7&range=7d&name=b");
    expect(without[5]).toBe("status=FAILURE,PENDING&name=a&name=b&runtime_min=90&range=7d");
  });

  it("shows a flag as it is written, and takes it away", () => {
    const query = new URLSearchParams("lost=true&range=7d");
    const [filter] = filtersOf(query);
    expect(filter).toMatchObject({ qualifier: "is", value: "lost" });
    expect(filter && withoutFilter(query, filter).toString()).toBe("range=7d");
  });

  it("suggests how a word goes on", () => {
    const known = { names: ["shop.pay", "shop.two words"], queues: ["images"], workers: [] };
    const texts = (typed: string): string[] => suggestionsFor(typed, known).map(({ text }) => text);
    expect(texts("kw")).toEqual(["kwargs."]);
    expect(texts("state:fail")).toEqual(["state:failure"]);
    expect(texts("is:")).toEqual(["is:lost"]);
    expect(texts("queue:")).toEqual(["queue:images"]);
    expect(texts("pay")).toEqual(["name:shop.pay"]);
    expect(texts("state:failure name:two")).toEqual(['name:"shop.two words"']);
    expect(accept("state:failure name:two", { text: "name:x", hint: "" })).toBe("state:failure name:x");
  });
});

describe("numbers of Python", () => {
  it("keep all their digits", () => {
    const { big, small, list } = parseExact(
      '{"big":123456789012345678901234567890,"small":7,"list":[1.50,"12345678901234567890 a"]}',
    ) as Record<string, unknown>;
    expect(big).toEqual(new ExactNumber("123456789012345678901234567890"));
    expect(small).toBe(7);
    expect(list).toEqual([new ExactNumber("1.50"), "12345678901234567890 a"]);
  });

  it("leave every other value as it is", () => {
    const values = fc.jsonValue().filter((value) => !JSON.stringify(value).includes("\\u0000"));
    fc.assert(
      fc.property(values, (value) => {
        const restored = JSON.stringify(parseExact(JSON.stringify(value)), (_key, each: unknown) =>
          each instanceof ExactNumber ? Number(each.text) : each,
        );
        expect(restored).toBe(JSON.stringify(value));
      }),
    );
  });
});

it.each([
  [0, "0 ms"],
  [0.0042, "4.2 ms"],
  [0.32, "320 ms"],
  [2.94, "2.9 s"],
  [59.96, "1 min"],
  [372, "6 min 12 s"],
  [5_400, "1 h 30 min"],
  [259_200, "3 d"],
  [-2, "−2 s"],
])("%f seconds are shown as %s", (seconds, shown) => {
  expect(duration(seconds)).toBe(shown);
});

it.each([
  [0, "0 %"],
  [0.000_01, "< 0.01 %"],
  [0.000_72, "0.07 %"],
  [0.0072, "0.7 %"],
  [0.05, "5 %"],
  [0.357, "35.7 %"],
])("the share %f is shown as %s", (share, shown) => {
  expect(percent(share)).toBe(shown);
});

it.each([
  ["/", "/"],
  ["/tasks?status=FAILURE", "/tasks?status=FAILURE"],
  ["/celery/", "/"],
  ["/a/b/tasks?x=/about", "/tasks?x=/about"],
  ["/a/b/assets/index-1.js", "/assets/index-1.js"],
  ["/a/b/api/v1/tasks?limit=1", "/api/v1/tasks?limit=1"],
  ["/api/v1/workers", "/api/v1/workers"],
  ["/api/v1/tasks/tasks", "/api/v1/tasks/tasks"],
  ["/tasks/tasks", "/tasks"],
  ["/nothing", "/nothing"],
  ["/celery/nothing", "/celery/nothing"],
  ["/celery/auth/callback?code=x", "/auth/callback?code=x"],
  ["/auth/login?to=/celery/tasks", "/auth/login?to=/celery/tasks"],
  ["/auth/celery/auth/logout", "/auth/logout"],
  ["/auth/tasks", "/tasks"],
  ["/api/tasks", "/tasks"],
])("the address %s behind a proxy is %s", (address, expected) => {
  expect(withoutPrefix(address)).toBe(expected);
});

it.each([
  ["/api/tasks?limit=1", "/api/tasks?limit=1"],
  ["/celery/api/tasks", "/api/tasks"],
  ["/api/celery/api/task/info/tasks", "/api/task/info/tasks"],
  ["/api/celery/tasks", "/tasks"],
  ["/celery/api/v1/tasks", "/api/v1/tasks"],
  ["/celery/api/worker/shutdown/a/b", "/api/worker/shutdown/a/b"],
])("with Flower's API, the address %s behind a proxy is %s", (address, expected) => {
  expect(withoutPrefix(address, true)).toBe(expected);
});

/** What they replace, because it takes too long to make. */
describe("times and numbers are written as Intl would", () => {
  const dates = fc.date({ min: new Date("1990-01-01"), max: new Date("2089-12-31"), noInvalidDate: true });

  it("times", () => {
    const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
    const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
    const day = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
    const minute = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
    fc.assert(
      fc.property(dates, (at) => {
        expect(exactTime(at).slice(0, exact.format(at).length)).toBe(exact.format(at));
        expect(clockTime(at)).toBe(`${clock.format(at)}.${at.toISOString().slice(20, 23)}`);
        expect(shortTime(at)).toBe(`${day.format(at)}, ${minute.format(at)}`);
      }),
    );
  });

  it("numbers", () => {
    const grouped = new Intl.NumberFormat("en-US");
    const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
    for (const count of [0, 999, 1_000, 99_950, 999_499, 999_950, 1e6, 999_950_000, 1e9, 1e13])
      expect(compact(count)).toBe(short.format(count));
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.integer({ min: -1e9, max: 1e9 }), (count, thousandths) => {
        expect(number(count)).toBe(grouped.format(count));
        expect(number(thousandths / 1_000)).toBe(grouped.format(thousandths / 1_000));
      }),
    );
  });
});
