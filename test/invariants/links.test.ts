import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT, headingsOf, proseOf } from "./workspace.ts";

/** Every page for readers, relative to the root. */
const PAGES = [
  ...markdownIn("."),
  ...markdownIn("docs"),
  ...markdownIn("dashboards"),
  ...["adr", "benchmark"].flatMap((folder) => markdownIn(`docs/${folder}`)),
  ...["apps", "packages"].flatMap((parent) => readdirSync(join(ROOT, parent)).flatMap((name) => markdownIn(`${parent}/${name}`))),
];

describe("links between pages", () => {
  it.each(PAGES)("of %s lead to an existing file and heading", (page) => {
    const broken = linksOf(page).filter((link) => !isGood(page, link));
    expect(broken).toEqual([]);
  });
});

function markdownIn(folder: string): string[] {
  const path = join(ROOT, folder);
  if (!existsSync(path) || !statSync(path).isDirectory()) return [];
  return readdirSync(path)
    .filter((name) => name.endsWith(".md"))
    .map((name) => normalize(`${folder}/${name}`));
}

/** Targets of links and pictures, except those on other sites. */
function linksOf(page: string): string[] {
  return [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target).filter((target) => !/^[a-z]+:/.test(target));
}

function isGood(page: string, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page : normalize(join(dirname(page), path));
  if (!existsSync(join(ROOT, target))) return false;
  return anchor === undefined || headingsOf(target).includes(anchor);
}
