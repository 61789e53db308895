import { afterAll, expect, it } from "vitest";
import { openTerminal } from "../src/terminal.ts";

const original = Object.getOwnPropertyDescriptor(process.stdout, "columns");
const terminal = openTerminal({});

afterAll(() => {
  Reflect.deleteProperty(process.stdout, "columns");
  if (original !== undefined) Object.defineProperty(process.stdout, "columns", original);
});

it.each([
  [undefined, 100],
  [0, 100],
  [20, 40],
  [132, 132],
])("uses %s columns of a terminal as %i", (columns, expected) => {
  Object.defineProperty(process.stdout, "columns", { value: columns, configurable: true });
  expect(terminal.columns).toBe(expected);
});
