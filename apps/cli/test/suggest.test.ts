import { expect, it } from "vitest";
import { suggest } from "../src/arguments.ts";

const KNOWN = ["start", "migrate", "query", "--redis-url", "--redis"];

it.each([
  ["strat", "start"],
  ["migrat", "migrate"],
  ["--redis-ulr", "--redis-url"],
  ["--rediss", "--redis"],
])("suggests for %s: %s", (word, meant) => expect(suggest(word, KNOWN)).toBe(meant));

it.each(["frobnicate", "x", ""])("suggests nothing for %j", (word) => expect(suggest(word, KNOWN)).toBeUndefined());
