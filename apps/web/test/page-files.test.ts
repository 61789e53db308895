import { readFileSync, readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { useApi } from "./harness.ts";

const api = useApi();
const ASSETS = new URL("../dist/client/assets/", import.meta.url);
const KIB = 1_024;

function page(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  return fetch(new URL(path, api.url), { headers });
}

function found(pattern: RegExp, text: string): string[] {
  return [...text.matchAll(pattern)].map(([, name = ""]) => name);
}

function withImports(names: readonly string[]): ReadonlySet<string> {
  const files = new Set<string>();
  const add = (name: string): void => {
    if (files.has(name)) return;
    files.add(name);
    for (const each of found(/(?:from|import)\s*["`]\.\/([\w-]+\.js)["`]/g, readFileSync(new URL(name, ASSETS), "utf8"))) add(each);
  };
  for (const name of names) add(name);
  return files;
}

/** The files that a page needs before it can show anything, following imports that are not lazy. */
function firstLoad(): { readonly script: string[]; readonly style: string[] } {
  const html = readFileSync(new URL("../index.html", ASSETS), "utf8");
  return {
    script: [...withImports(found(/<script[^>]* src="\.\/assets\/([^"]+)"/g, html))],
    style: found(/<link rel="stylesheet"[^>]* href="\.\/assets\/([^"]+)"/g, html),
  };
}

function compressedSize(names: readonly string[]): number {
  return names.reduce((sum, name) => sum + readFileSync(new URL(`${name}.gz`, ASSETS)).length, 0);
}

it("loads at most 40 KiB of scripts and 10 KiB of styles at first, and at most 25 KiB for any other page", () => {
  const { script, style } = firstLoad();
  expect(script.length).toBeGreaterThan(0);
  expect(compressedSize(script)).toBeLessThanOrEqual(40 * KIB);
  expect(style).toHaveLength(1);
  expect(compressedSize(style)).toBeLessThanOrEqual(10 * KIB);
  const others = readdirSync(ASSETS).filter((name) => name.endsWith(".js") && !script.includes(name));
  expect(others.length).toBeGreaterThan(8);
  for (const other of others) {
    const more = [...withImports([other])].filter((name) => !script.includes(name));
    expect([other, compressedSize(more)]).toEqual([other, expect.toSatisfy((size: number) => size <= 25 * KIB)]);
  }
});

it("is built for production: without the paths of its sources", () => {
  const scripts = readdirSync(ASSETS).filter((name) => name.endsWith(".js"));
  expect(scripts.filter((name) => readFileSync(new URL(name, ASSETS), "utf8").includes(".tsx"))).toEqual([]);
});

it("serves every page with a policy that allows only our own files", async () => {
  for (const path of ["/", "/tasks", "/task?id=x", "/failures", "/types", "/workers", "/worker?name=x", "/queues", "/live", "/about"]) {
    const answer = await page(path);
    expect([path, answer.status]).toEqual([path, 200]);
    expect(answer.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const policy = (answer.headers.get("content-security-policy") ?? "").split(";");
    expect(policy).toEqual(
      expect.arrayContaining([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
      ]),
    );
    expect(await answer.text()).not.toMatch(/<style|style=|<script>|\son\w+=|(?:src|href)="\//);
  }
});

it("names the scripts of a page in its HTML, so that they are loaded with the first one", async () => {
  const html = await (await page("/failures")).text();
  const own = found(/<link rel="modulepreload" href="\.\/assets\/([^"]+)"/g, html);
  expect(own).toEqual(expect.arrayContaining([expect.stringMatching(/^failures-/)]));
  for (const name of own) expect((await page(`/assets/${name}`)).status).toBe(200);
});

it("serves files compressed, to be kept for ever", async () => {
  const [name = ""] = firstLoad().script;
  const answer = await page(`/assets/${name}`, { "accept-encoding": "gzip, br" });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-encoding")).toBe("br");
  expect(answer.headers.get("cache-control")).toContain("immutable");
  expect(await answer.text()).toBe(readFileSync(new URL(name, ASSETS), "utf8"));
});

it("serves nothing else", async () => {
  for (const path of ["/assets/none.js", "/assets/..%2f..%2fbundle.js", "/index.html", "/tasks.html"]) {
    expect([path, (await page(path)).status]).toEqual([path, expect.toBeOneOf([403, 404])]);
  }
  expect((await page("/api/v1/none")).headers.get("content-type")).toContain("application/problem+json");
  expect((await page("/none")).headers.get("content-type")).toContain("application/problem+json");
  expect(await (await page("/assets/none.js", { accept: "text/html" })).text()).not.toContain("<script");
});

it("leads from the address of a task that one may guess to its page, also below a prefix", async () => {
  for (const [path, target] of [
    ["/tasks/a%26b", "/task?id=a%26b"],
    ["/celery/prod/task/4f1c", "/celery/prod/task?id=4f1c"],
  ] as const) {
    const answer = await fetch(new URL(path, api.url), { headers: { accept: "text/html" }, redirect: "manual" });
    expect(answer.status).toBe(302);
    expect(new URL(answer.headers.get("location") ?? "", new URL(path, api.url)).href).toBe(new URL(target, api.url).href);
  }
  expect((await page("/tasks/%zz", { accept: "text/html" })).status).toBeGreaterThanOrEqual(400);
  expect((await page("/tasks/x", {})).headers.get("content-type")).toContain("application/problem+json");
});

it("answers below any prefix that a proxy keeps", async () => {
  expect((await page("/celery/prod/tasks?status=FAILURE")).headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(await (await page("/celery/prod/api/v1/me")).json()).toMatchObject({ name: "anyone", role: "admin" });
  const [name = ""] = firstLoad().script;
  expect((await page(`/celery/prod/assets/${name}`)).status).toBe(200);
});
