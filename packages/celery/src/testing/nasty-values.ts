/** Values that have broken decoders: of every type, at every edge, and of the wrong type for every field. */

export const NASTY_KEYS = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "",
  "\0",
  "type",
  "uuid",
  "__type__",
] as const;

export const NASTY_TEXTS = [
  "",
  " ",
  "\0",
  "a\0b",
  "\uD800",
  "\uDC00\uD800",
  "\uFEFFx",
  "\u202Eabc",
  "null",
  "NaN",
  "-1",
  "1e999",
  "x".repeat(600),
  "é".repeat(10_000),
  "😀".repeat(257),
  "{'__proto__': {'polluted': True}}",
  "'; DROP TABLE celery_task; --",
  "%s%n${1}{{1}}",
  "../../etc/passwd",
  "a|b:1|c#tag\nother:2|d",
  "2026-11-22T08:00:00.123456+00:00",
  "9999-12-31T23:59:59.999999+23:59",
  "10000-01-01T00:00:00",
  "0001-01-01T00:00:00",
  "1969-12-31T23:59:59Z",
  "2026-02-30T00:00:00",
] as const;

export const NASTY_NUMBERS = [
  0,
  -0,
  -1,
  0.1,
  1e308,
  -1e308,
  5e-324,
  2 ** 31,
  2 ** 53,
  -(2 ** 63),
  4_000_000_000,
  4_000_000_001,
  253_402_300_800,
  1_795_328_908_522.675,
  1_795_328_908.522675,
] as const;

/** A new value on every call, because a mutant may change it further. */
export function nastyContainers(): unknown[] {
  return [
    [],
    {},
    [[]],
    [null],
    { a: { b: [1] } },
    { __type__: "datetime", __value__: "2026-11-22T08:00:00+00:00" },
    { __type__: "uuid", __value__: { hex: "3ce907e3796a4b5197cf7cef1b946f91" } },
    { __type__: "uuid", __value__: { hex: 5 } },
    { __value__: { __value__: { __value__: null } } },
    JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}'),
    nest(150),
  ];
}

function nest(levels: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Fragments to insert into JSON, YAML and Python texts. */
export const TOKENS = [
  ..."[]{}(),:\"'\\-?&*!|>%@`#~".split(""),
  "[[[[",
  "}}}}",
  "null",
  "NaN",
  "-Infinity",
  "1e999",
  "-",
  "true",
  '"a":',
  '"type":"task-sent",',
  '"timestamp":1e308,',
  "\\u0000",
  "\\ud800",
  "\\x00",
  "\\",
  "\n",
  "\n- ",
  "\n  ",
  "\t",
  "&a ",
  "*a",
  "!!binary ",
  "<<: ",
  "---\n",
  "|\n",
  "None",
  "True",
  "set()",
  "frozenset({",
  "...",
  "b''",
  "(1,)",
  "{'__proto__': ",
  "0x1",
  "1_000",
  "\0",
  "\uD800",
  "é",
] as const;
