import { expect, it } from "vitest";
import { renderJson, renderTable } from "../src/report/table.ts";

const ROWS = [
  { name: "shop.charge", runtime: 0.5, args: { card: 1 }, exception: null },
  { name: "shop.a", runtime: 12, args: null, exception: `Error:\n\u001b[2J${"x".repeat(200)}` },
];

function selected(rows: readonly Readonly<Record<string, unknown>>[], ...decimal: string[]) {
  return { rows, columns: Object.keys(rows[0] ?? {}).map((name) => ({ name, isDecimal: decimal.includes(name) })) };
}

it("shows rows as a table, without anything that moves the cursor", () => {
  const lines = renderTable(selected(ROWS, "runtime"), 80).split("\n");
  expect(lines.slice(0, 3)).toEqual([
    "name         runtime  args        exception",
    "-----------  -------  ----------  ----------------------------------------",
    'shop.charge  0.5      {"card":1}',
  ]);
  expect(lines[3]).toMatch(/^shop\.a {7}12 {19}Error: \[2Jx+…$/);
  expect(lines.slice(4)).toEqual(["(2 rows)", ""]);
  const widths = renderTable(selected(ROWS), 50)
    .split("\n")
    .map(({ length }) => length);
  expect(Math.max(...widths)).toBe(50);
  expect(renderTable(selected(ROWS))).toContain("x".repeat(200));
  expect(renderTable(selected([]))).toBe("(0 rows)\n");
});

it("cuts no task id", () => {
  const task_id = "x".repeat(60);
  expect(renderTable(selected([{ task_id, name: task_id }]), 80).split("\n")[2]).toBe(`${task_id}  ${"x".repeat(17)}…`);
});

it.each([
  ["1.6666666666666667", "1.666667"],
  ["-1.6666666666666667", "-1.666667"],
  ["0.00001666666666666667", "0.00001667"],
  ["0.000000123456789", "1.235e-7"],
  ["0.125", "0.125"],
  ["12345678901234567890.123456789", "12345678901234567890.123456789"],
  ["NaN", "NaN"],
  [12.000000001, "12.000000"],
])("rounds %s", (value, shown) => {
  expect(renderTable(selected([{ value }], "value")).split("\n")[2]).toBe(shown);
  expect(renderTable(selected([{ value }])).split("\n")[2]).toBe(String(value));
});

it("shows rows as lines of JSON", () => {
  const lines = renderJson(ROWS).split("\n").slice(0, 2);
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(ROWS);
});
