import { describe, expect, it } from "vitest";
import { parsePythonLiteral, type JsonValue } from "../../src/python/literal.ts";

describe("what parses", () => {
  it.each<readonly [string, JsonValue]>([
    ["None", null],
    ["True", true],
    ["False", false],
    ["0", 0],
    ["-5", -5],
    ["9007199254740991", 9_007_199_254_740_991],
    ["-9007199254740991", -9_007_199_254_740_991],
    ["1.0", 1],
    ["0.1", 0.1],
    ["-1.5", -1.5],
    ["1e+300", 1e300],
    ["1e22", 1e22],
    ["5e-324", 5e-324],
    ["1.7976931348623157e+308", 1.797_693_134_862_315_7e308],
    ["''", ""],
    ['""', ""],
    ["'a'", "a"],
    ['"it\'s"', "it's"],
    [String.raw`'it\'s'`, "it's"],
    [String.raw`'\'\''`, "''"],
    ["'été ✓ 😀'", "été ✓ 😀"],
    // Celery writes line breaks unchanged.
    ["'two\nlines\tand a tab'", "two\nlines\tand a tab"],
    [`'"quoted"'`, '"quoted"'],
    ["'...a'", "...a"],
    ["'a ... b'", "a ... b"],
    // Only Python's repr writes double quotes, and its escapes have one meaning.
    [String.raw`"\\ \' \" \a\b\f\n\r\t\v"`, "\\ ' \" \x07\b\f\n\r\t\v"],
    [String.raw`"\x41\xe9\u2713\U0001f600\101\7"`, "Aé✓😀A\x07"],
    [String.raw`"\ud83d\ude00"`, "😀"],
    ['"a\\\nb"', "ab"],
    ['"..."', "..."],
    ["()", []],
    ["(1,)", [1]],
    ["(1, 'a', {'k': None})", [1, "a", { k: null }]],
    ["[]", []],
    ["[1, 2.5, [True], (None,)]", [1, 2.5, [true], [null]]],
    ["{1, 2}", [1, 2]],
    ["{'a'}", ["a"]],
    ["set()", []],
    ["frozenset()", []],
    ["frozenset({1, 2})", [1, 2]],
    ["[frozenset({'a'}), set()]", [["a"], []]],
    ["{}", {}],
    ["{'a': 1, 'b': {'c': [2]}}", { a: 1, b: { c: [2] } }],
    ["{1: 'a', 2.5: 'b', True: 'c', None: 'd', -3: 'e'}", { "1": "a", "2.5": "b", True: "c", None: "d", "-3": "e" }],
    ["{'constructor': 1, 'toString': 2}", { constructor: 1, toString: 2 }],
    ["  ( 1 ,\n'a' )  ", [1, "a"]],
    ["{1 : 'a'}", { "1": "a" }],
    [`[${Array.from({ length: 200 }, () => "[]").join(", ")}]`, Array.from({ length: 200 }, () => [])],
    [String.raw`"\U0010ffff"`, "\u{10FFFF}"],
    ["{'a':1,'b':[1,2]}", { a: 1, b: [1, 2] }],
    [String.raw`('o\'neil-18', 5)`, ["o'neil-18", 5]],
    [`('user4@example.com', 'Hello, "world"')`, ["user4@example.com", 'Hello, "world"']],
  ])("%s", (text, value) => {
    expect(parsePythonLiteral(text)).toEqual({ ok: true, value });
  });

  it("a key __proto__, without setting a prototype", () => {
    const parsed = parsePythonLiteral("{'__proto__': {'polluted': 1}, 'a': 1}");
    expect(parsed.ok && JSON.stringify(parsed.value)).toBe('{"__proto__":{"polluted":1},"a":1}');
    expect(parsed.ok && Object.getPrototypeOf(parsed.value)).toBe(Object.prototype);
  });
});

describe("what does not parse, so that only its text is kept", () => {
  it.each([
    ["nothing", ""],
    ["space", "  "],
    ["a dict that saferepr hid by depth", "{'a': {'b': {'c': {...}}}}"],
    ["a list that saferepr hid by depth", "[[[[...]]]]"],
    ["a text that saferepr cut, without its closing bracket", "('xxx...', ..."],
    ["a text that saferepr cut, with its closing bracket", "{'k': 'yyy...', ...}"],
    ["numbers cut in the middle", "(225, 226..., ...)"],
    ["a string that saferepr cut at a space, although all brackets close", "('the first words...', 5)"],
    ["a string that was cut, alone", "'xxx...'"],
    ["nothing but a cut", "'...'"],
    ["a list that does not close", "[1, 2"],
    ["a string that does not close", "'abc"],
    ["a string that ends in a backslash", String.raw`('C:\',)`],
    ["Ellipsis", "Ellipsis"],
    ["three dots", "..."],
    ["Decimal", "Decimal('1.0')"],
    ["datetime", "datetime.datetime(2026, 11, 22, 8, 0)"],
    ["UUID", "UUID('3ce907e3-796a-4b51-97cf-7cef1b946f91')"],
    ["an object in a list", "[1, <Foo object at 0x7f00>]"],
    ["an object", "<Foo object at 0x7f00>"],
    ["a recursion", "[<Recursion on list with id=140>]"],
    ["a range", "range(0, 3)"],
    ["a set of a custom class", "MySet({1})"],
    ["OrderedDict", "OrderedDict([('a', 1)])"],
    ["bytes", "b'abc'"],
    ["bytes in a tuple", "(b'abc',)"],
    ["a prefix", "u'abc'"],
    ["nan", "nan"],
    ["inf", "[inf]"],
    ["-inf", "-inf"],
    ["an integer that a double cannot represent", "9007199254740992"],
    ["a long id", "(1234567890123456789,)"],
    ["a float beyond a double", "1e999"],
    ["a complex number", "1j"],
    ["a complex number in parentheses", "(1+2j)"],
    ["leading zeros", "007"],
    ["a plus", "+1"],
    ["hexadecimal", "0xff"],
    ["underscores", "1_000"],
    ["a float without digits", "1."],
    ["a bare word", "foo"],
    ["JSON's words", "[true, null]"],
    ["a word that begins like one", "Truest"],
    ["two values", "1 2"],
    ["two strings side by side", "'a' 'b'"],
    ["one value in parentheses", "(1)"],
    ["a comma alone", "(,)"],
    ["an extra comma in a list", "[1,]"],
    ["an extra comma in a tuple", "('a', 'b',)"],
    ["an extra comma in a dict", "{'a': 1,}"],
    ["an extra comma in a set", "{1,}"],
    ["brackets that do not match", "[1)"],
    ["a key without a value", "{'a': 1, 'b'}"],
    ["a value without a key", "{1, 'b': 2}"],
    ["keys with the same text", "{1: 'a', '1': 'b'}"],
    ["a key that is a tuple", "{('a', 1): 2}"],
    ["a frozenset of a list", "frozenset([1])"],
    ["a frozenset of a dict", "frozenset({1: 2})"],
    ["a path that could contain a line break", String.raw`'C:\new'`],
    ["a line break that could be a path", String.raw`('a\nb', 1)`],
    ["a backslash before the last quote, which could belong to the text", String.raw`'a\\'`],
    ["an escape that repr does not have", String.raw`"\d"`],
    ["an escape by name", String.raw`"\N{BULLET}"`],
    ["half an escape", String.raw`"\x4"`],
    ["an invalid code point", String.raw`"\U00110000"`],
    ["NUL, which jsonb refuses", String.raw`"\x00"`],
    ["an unescaped NUL", "'a\0'"],
    ["half a character, which jsonb refuses", String.raw`"\ud800"`],
    ["an unescaped half of a character", "'\uD800'"],
  ])("%s", (_what, text) => {
    expect(parsePythonLiteral(text)).toEqual({ ok: false });
  });

  it.each([
    ["101 levels", "[".repeat(101) + "]".repeat(101)],
    ["too many levels", "[".repeat(60_000)],
    ["too many frozensets", "frozenset({".repeat(5_000)],
    ["too many dicts", "{1: ".repeat(15_000)],
    ["more than 65,536 characters", `'${"x".repeat(65_535)}'`],
  ])("%s", (_what, text) => {
    expect(parsePythonLiteral(text)).toEqual({ ok: false });
  });

  it("but 100 levels parse, and 65,536 characters", () => {
    expect(parsePythonLiteral("[".repeat(100) + "]".repeat(100)).ok).toBe(true);
    expect(parsePythonLiteral(`'${"x".repeat(65_534)}'`)).toEqual({ ok: true, value: "x".repeat(65_534) });
  });
});

describe("time", () => {
  it.each([
    ["quotes", "'".repeat(65_000)],
    ["escaped quotes without a closing quote", `'${String.raw`\'`.repeat(32_000)}`],
    ["strings in a list", `[${"'a', ".repeat(13_000)}1]`],
    ["spaces", `[${" ".repeat(65_000)}`],
    ["keys", `{${Array.from({ length: 6_000 }, (_, index) => `'k${index}': 1`).join(", ")}}`],
    ["digits", "1".repeat(65_000)],
  ])("is linear for %s", (_what, text) => {
    const before = process.cpuUsage();
    for (let count = 0; count < 20; count += 1) parsePythonLiteral(text);
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(4_000);
  });
});
