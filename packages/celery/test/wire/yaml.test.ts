import { describe, expect, it } from "vitest";
import { Lexer } from "yaml";
import { TooLargeError } from "../../src/model/normalise.ts";
import { MAX_YAML_LENGTH, parseYaml } from "../../src/wire/yaml.ts";

describe("parseYaml", () => {
  it.each([
    // Texts that PyYAML writes plain.
    ["1e5", "1e5"],
    ["12e34567", "12e34567"],
    ["0189", "0189"],
    ["y", "y"],
    ["n", "n"],
    ["1:30:x", "1:30:x"],
    ["2026-11-22 08:00:00.123456+00:00", "2026-11-22 08:00:00.123456+00:00"],
    ["'2026-11-22T08:00:00.123456+00:00'", "2026-11-22T08:00:00.123456+00:00"],
    ["'1795328908'", "1795328908"],
    ["'yes'", "yes"],
    ["'null'", "null"],
    [String.raw`"\xE9\u2713\U0001F600"`, "é✓😀"],
    ["'it''s'", "it's"],
    ["1795328908.522675", 1_795_328_908.522675],
    ["-3", -3],
    ["0", 0],
    ["1.0e+20", 1e20],
    ["5.0e-05", 5e-5],
    ["true", true],
    ["false", false],
    ["null", null],
  ])("reads %s as PyYAML intends", (text, value) => {
    expect(parseYaml(`a: ${text}\n`)).toEqual({ a: value });
  });

  it("gives plain data for every tag", () => {
    const text =
      "- !!python/object/apply:os.system [ls]\n- !!python/tuple [1]\n- !!binary aGk=\n- !!timestamp 2020-01-01\n- !!js/function 'x'\n";
    expect(parseYaml(text)).toEqual([["ls"], [1], "aGk=", "2020-01-01", "x"]);
  });

  it("follows aliases, which PyYAML writes for repeated objects", () => {
    expect(parseYaml("- &id001 [1]\n- *id001\n")).toEqual([[1], [1]]);
  });

  it("sets no prototype, and does not merge", () => {
    const value = parseYaml("__proto__: {polluted: 1}\n<<: {merged: 1}\n");
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect("polluted" in Object(value)).toBe(false);
    expect("merged" in Object(value)).toBe(false);
  });

  it("reads an empty body as null, and the last of equal keys, as PyYAML does", () => {
    expect(parseYaml("")).toBeNull();
    expect(parseYaml("a: 1\na: 2\n")).toEqual({ a: 2 });
  });

  it.each([
    ["two documents", "a: 1\n---\na: 2\n", "not one document"],
    ["no YAML", "a: [1", "Flow sequence"],
    ["an alias without an anchor", "*a", "Unresolved alias"],
    ["aliases that multiply", `a: &a [x,x,x,x,x,x,x,x,x]\n${multiply("abcdefgh")}`, "Excessive alias count"],
    ["deep nesting", "[".repeat(20_000), "nested more than 100 levels"],
  ])("refuses %s", (_given, text, complaint) => {
    expect(() => parseYaml(text)).toThrow(complaint);
  });

  it.each<[string, number, (count: number) => string]>([
    ["262144 characters", MAX_YAML_LENGTH, (count) => `'${"x".repeat(count - 2)}'`],
    ["25000 tokens", 25_000, listOfTokens],
    ["100 aliases", 100, (count) => `- &a 1\n${"- *a\n".repeat(count)}`],
  ])("reads up to %s, and not one more", (limit, count, text) => {
    expect(() => parseYaml(text(count))).not.toThrow();
    expect(() => parseYaml(text(count + 1))).toThrow(TooLargeError);
    expect(() => parseYaml(text(count + 1))).toThrow(limit);
  });
});

function list(items: number, end: string): string {
  return `[${"0,".repeat(items)}0]${end}`;
}

function tokens(text: string): number {
  return [...new Lexer().lex(text)].length;
}

/** A list that the lexer divides into `count` tokens. */
function listOfTokens(count: number): string {
  const perItem = tokens(list(1, "")) - tokens(list(0, ""));
  const end = ["", "\n", " \n", " #\n"].find((ending) => (count - tokens(list(0, ending))) % perItem === 0) ?? "";
  const text = list(Math.floor((count - tokens(list(0, end))) / perItem), end);
  expect(tokens(text)).toBe(count);
  return text;
}

/** Each line is a list of nine times the previous line. */
function multiply(names: string): string {
  const lines: string[] = [];
  for (let index = 1; index < names.length; index += 1)
    lines.push(`${names[index]}: &${names[index]} [${`*${names[index - 1]},`.repeat(9)}]`);
  return lines.join("\n");
}
