import { bench, describe } from "vitest";
import { parsePythonLiteral } from "../src/index.ts";

const REPRS = {
  "a tuple of two": "(4711, 'customer@example.com')",
  "a dict of many kinds": "{'id': 17, 'price': Decimal('9.99'), 'tags': ['a', \"b'c\"], 'nested': {'ok': True, 'none': None, 'x': 1e-07}}",
  "a thousand numbers": `[${Array.from({ length: 1_000 }, (_, index) => index).join(", ")}]`,
  "cut by Celery": `(${"'abcdefgh', ".repeat(80)}...)`,
};

describe("repr of arguments to JSON", () => {
  for (const [name, text] of Object.entries(REPRS)) bench(name, () => void parsePythonLiteral(text));
});
