import { expect, it } from "vitest";
import { renderJson, renderTable } from "../src/report/table.ts";

const ROWS = [
  { name: "shop.charge", runtime: 0.5, args: { card: 1 }, exception: null },
  { name: "shop.a", runtime: 12, args: null, exception: `Error:\n\u001b[2J${"x".repeat(200)}` },
];

it("shows rows as a table, without anything that moves the cursor", () => {
  const lines = renderTable(ROWS, 80).split("\n");
  expect(lines.slice(0, 3)).toEqual([
    "name         runtime  args        exception",
    "-----------  -------  ----------  ----------------------------------------",
    'shop.charge  0.5      {"card":1}',
  ]);
  expect(lines[3]).toMatch(/^shop\.a {7}12 {19}Error: \[2Jx+…$/);
  expect(lines.slice(4)).toEqual(["(2 rows)", ""]);
  expect(
    Math.max(
      ...renderTable(ROWS, 50)
        .split("\n")
        .map(({ length }) => length),
    ),
  ).toBe(50);
  expect(renderTable(ROWS)).toContain("x".repeat(200));
  expect(renderTable([])).toBe("(0 rows)\n");
});

it("shows rows as lines of JSON", () => {
  expect(
    renderJson(ROWS)
      .split("\n")
      .slice(0, 2)
      .map((line) => JSON.parse(line) as unknown),
  ).toEqual(ROWS);
});
