import { describe, expect, it } from "vitest";
import { text as textFrom } from "node:stream/consumers";
import { type Family, type Format, type Sample, TextWriter, formatFor, writeNumber } from "../../src/exposition/text.ts";

async function writeText(families: readonly Family[], format: Format, more?: Readonly<Record<string, string>>): Promise<string> {
  return textFrom(new TextWriter(format, more).write(families));
}

const NASTY = 'a "quoted" \\ back\\slash,\nnew line, é ✓ 🐇 {x="y"}';

const FAMILIES: readonly Family[] = [
  {
    name: "celery_task_sent",
    type: "counter",
    help: 'Sent when "it" is\npublished \\o/.',
    samples: [
      { suffix: "_total", labels: { name: NASTY, queue_name: "celery", hostname: "generic" }, value: 3 },
      { suffix: "_total", labels: { queue_name: "", hostname: "", name: "" }, value: 0 },
    ],
  },
  { name: "celery_queue_length", type: "gauge", help: "How long.", samples: [{ suffix: "", labels: {}, value: 1.5 }] },
  {
    name: "celery_task_runtime",
    type: "histogram",
    help: "Seconds.",
    samples: [
      { labels: { name: "a" }, limits: ["10.0", "+Inf"], counts: [1, 2], sum: 1e-5 },
      { labels: {}, limits: ["10.0", "+Inf"], counts: [0, 12], sum: 3_000_000 },
    ],
  },
  { name: "celery_task_empty", type: "histogram", help: "None yet.", samples: [] },
];

it("writes the text format 0.0.4 as Prometheus' Python client does", async () => {
  expect(await writeText(FAMILIES, "text")).toBe(`# HELP celery_task_sent_total Sent when "it" is\\npublished \\\\o/.
# TYPE celery_task_sent_total counter
celery_task_sent_total{hostname="generic",name="a \\"quoted\\" \\\\ back\\\\slash,\\nnew line, é ✓ 🐇 {x=\\"y\\"}",queue_name="celery"} 3.0
celery_task_sent_total{hostname="",name="",queue_name=""} 0.0
# HELP celery_queue_length How long.
# TYPE celery_queue_length gauge
celery_queue_length 1.5
# HELP celery_task_runtime Seconds.
# TYPE celery_task_runtime histogram
celery_task_runtime_bucket{le="10.0",name="a"} 1.0
celery_task_runtime_bucket{le="+Inf",name="a"} 2.0
celery_task_runtime_count{name="a"} 2.0
celery_task_runtime_sum{name="a"} 1e-05
celery_task_runtime_bucket{le="10.0"} 0.0
celery_task_runtime_bucket{le="+Inf"} 12.0
celery_task_runtime_count 12.0
celery_task_runtime_sum 3e+06
# HELP celery_task_empty None yet.
# TYPE celery_task_empty histogram
`);
});

it("writes OpenMetrics 1.0: a counter's family without _total, quotes of a help text escaped, and an end", async () => {
  expect(await writeText(FAMILIES.slice(0, 2), "openmetrics", { env: "prod", queue_name: "of the sample" }))
    .toBe(`# HELP celery_task_sent Sent when \\"it\\" is\\npublished \\\\o/.
# TYPE celery_task_sent counter
celery_task_sent_total{env="prod",hostname="generic",name="a \\"quoted\\" \\\\ back\\\\slash,\\nnew line, é ✓ 🐇 {x=\\"y\\"}",queue_name="celery"} 3.0
celery_task_sent_total{env="prod",hostname="",name="",queue_name=""} 0.0
# HELP celery_queue_length How long.
# TYPE celery_queue_length gauge
celery_queue_length{env="prod",queue_name="of the sample"} 1.5
# EOF
`);
});

describe("times when counters began", () => {
  const created = 1_764_447_000;
  const families: readonly Family[] = [
    {
      name: "celery_task_sent",
      type: "counter",
      help: "Sent.",
      samples: [
        { suffix: "_total", labels: { name: "a" }, value: 1, created },
        { suffix: "_total", labels: { name: "b" }, own: ["exception", "E"], value: 2, created },
      ],
    },
    {
      name: "celery_task_runtime",
      type: "histogram",
      help: "Seconds.",
      samples: [{ labels: { name: "a" }, limits: ["+Inf"], counts: [1], sum: 2, created }],
    },
    { name: "celery_queue_length", type: "gauge", help: "How long.", samples: [{ suffix: "", labels: {}, value: 1 }] },
  ];

  it("are a gauge after the family in the text format", async () => {
    expect(await writeText(families, "text", { env: "x" })).toBe(`# HELP celery_task_sent_total Sent.
# TYPE celery_task_sent_total counter
celery_task_sent_total{env="x",name="a"} 1.0
celery_task_sent_total{env="x",exception="E",name="b"} 2.0
# HELP celery_task_sent_created Sent.
# TYPE celery_task_sent_created gauge
celery_task_sent_created{env="x",name="a"} 1.764447e+09
celery_task_sent_created{env="x",exception="E",name="b"} 1.764447e+09
# HELP celery_task_runtime Seconds.
# TYPE celery_task_runtime histogram
celery_task_runtime_bucket{env="x",le="+Inf",name="a"} 1.0
celery_task_runtime_count{env="x",name="a"} 1.0
celery_task_runtime_sum{env="x",name="a"} 2.0
# HELP celery_task_runtime_created Seconds.
# TYPE celery_task_runtime_created gauge
celery_task_runtime_created{env="x",name="a"} 1.764447e+09
# HELP celery_queue_length How long.
# TYPE celery_queue_length gauge
celery_queue_length{env="x"} 1.0
`);
  });

  it("are in the family in OpenMetrics, each after its counter", async () => {
    expect(await writeText(families.slice(0, 2), "openmetrics")).toBe(`# HELP celery_task_sent Sent.
# TYPE celery_task_sent counter
celery_task_sent_total{name="a"} 1.0
celery_task_sent_created{name="a"} 1.764447e+09
celery_task_sent_total{exception="E",name="b"} 2.0
celery_task_sent_created{exception="E",name="b"} 1.764447e+09
# HELP celery_task_runtime Seconds.
# TYPE celery_task_runtime histogram
celery_task_runtime_bucket{le="+Inf",name="a"} 1.0
celery_task_runtime_count{name="a"} 1.0
celery_task_runtime_sum{name="a"} 2.0
celery_task_runtime_created{name="a"} 1.764447e+09
# EOF
`);
  });
});

it.each([
  [0, "0.0"],
  [-0, "-0.0"],
  [1, "1.0"],
  [9, "9.0"],
  [10, "10.0"],
  [100_999, "100999.0"],
  [-3, "-3.0"],
  [0.1, "0.1"],
  [0.005, "0.005"],
  [0.000_1, "0.0001"],
  [0.000_01, "1e-05"],
  [1.5e-7, "1.5e-07"],
  [123_456.75, "123456.75"],
  [999_999, "999999.0"],
  [1e6, "1e+06"],
  [1_234_567.5, "1.2345675e+06"],
  [12_000_000, "1.2e+07"],
  [1e10, "1e+010"],
  [-1_234_567.5, "-1234567.5"],
  [1e16, "1e+16"],
  [1e22, "1e+22"],
  [1e100, "1e+100"],
  [Number.POSITIVE_INFINITY, "+Inf"],
  [Number.NEGATIVE_INFINITY, "-Inf"],
  [Number.NaN, "NaN"],
])("writes %d as the Python client does", async (number, text) => {
  expect(writeNumber(number)).toBe(text);
  expect(await writeText([{ name: "m", type: "gauge", help: "", samples: [{ suffix: "", labels: {}, value: number }] }], "text")).toContain(
    `\nm ${text}\n`,
  );
});

it.each([
  [undefined, "text"],
  ["*/*", "text"],
  ["text/plain", "text"],
  ["application/openmetrics-text", "openmetrics"],
  ["application/openmetrics-text; version=1.0.0", "openmetrics"],
  ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.6", "text"],
  ["text/plain;version=0.0.4;q=0.3, application/openmetrics-text;version=1.0.0;q=0.6, */*;q=0.2", "openmetrics"],
  ["application/openmetrics-text; q=0", "text"],
  ["application/openmetrics-text;q=0,*/*;q=0.1", "text"],
  // Prometheus 3.
  [
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "openmetrics",
  ],
  [
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.8,text/plain;version=0.0.4;q=0.7",
    "text",
  ],
])("answers Accept: %s with %s", (accept, format) => {
  expect(formatFor(accept)).toBe(format);
});

/** More than this is never in memory. */
const MOST_BYTES = 270_000;

it("takes samples as it writes them, so that neither a large family nor its text is ever in memory as a whole", async () => {
  let taken = 0;
  const labels = { name: "a".repeat(1_000) };
  function* samples(): Generator<Sample> {
    for (; taken < 4_000; taken += 1) yield { suffix: "_total", labels, own: ["exception", `E${taken}`], value: taken };
  }
  const family: Family = { name: "celery_task_failed", type: "counter", help: "Failed.", samples: samples() };
  let [text, parts] = ["", 0];
  for await (const part of new TextWriter("text").write([family])) {
    text += part.toString();
    parts += 1;
    expect(part.length).toBeLessThan(MOST_BYTES);
    expect(taken).toBeLessThan(270 * parts);
  }
  expect(parts).toBeGreaterThan(10);
  const lines = text.split("\n");
  expect(lines).toHaveLength(4_003);
  expect(lines.at(-2)).toMatch(/^celery_task_failed_total.*exception="E3999".* 3999\.0$/);
});

it("writes when counters began in parts too", async () => {
  const samples = Array.from({ length: 2_000 }, (_, index) => ({
    suffix: "_total",
    labels: { name: "a".repeat(1_000) },
    value: index,
    created: index,
  }));
  let gauge = "";
  for await (const part of new TextWriter("text").write([{ name: "celery_task_sent", type: "counter", help: "Sent.", samples }])) {
    expect(part.length).toBeLessThan(MOST_BYTES);
    gauge = gauge === "" ? (part.toString().split("# HELP celery_task_sent_created")[1] ?? "") : gauge + part.toString();
  }
  expect(gauge.match(/^celery_task_sent_created\{name="a+"\} [\d.]+$/gm)).toHaveLength(2_000);
});

it("writes the same again, whatever it has written since", async () => {
  const writer = new TextWriter("text", { env: "x" });
  const write = async (families: readonly Family[]): Promise<string> => textFrom(writer.write(families));
  const first = await write(FAMILIES);
  expect(first).toBe(await writeText(FAMILIES, "text", { env: "x" }));
  await write([{ name: "m", type: "gauge", help: "", samples: FAMILIES.flatMap(({ samples }) => [...samples]) }]);
  expect(await write(FAMILIES)).toBe(first);
});

it("writes a label of the sample's own in its place, whatever labels it has besides", async () => {
  const labels = { a: '"', z: "\n" };
  const written = await writeText(
    [
      {
        name: "m",
        type: "histogram",
        help: "",
        samples: [
          { suffix: "_total", labels: {}, own: ["le", "1.0"], value: 1 },
          { suffix: "_total", labels, own: ["le", '\\"✓'], value: 1 },
          { suffix: "_total", labels, own: ["zz", "last"], value: 2 },
          { suffix: "_total", labels, own: ["A", "first"], value: 3 },
          { suffix: "_total", labels, own: ["k", "instead of the static one"], value: 4 },
          { labels, limits: ["1.0", '\\"', "+Inf"], counts: [1, 2, 3], sum: 0.5 },
        ],
      },
    ],
    "text",
    { k: "v" },
  );
  expect(written.split("\n").slice(2, -1)).toEqual([
    'm_total{k="v",le="1.0"} 1.0',
    'm_total{a="\\"",k="v",le="\\\\\\"✓",z="\\n"} 1.0',
    'm_total{a="\\"",k="v",z="\\n",zz="last"} 2.0',
    'm_total{A="first",a="\\"",k="v",z="\\n"} 3.0',
    'm_total{a="\\"",k="instead of the static one",z="\\n"} 4.0',
    'm_bucket{a="\\"",k="v",le="1.0",z="\\n"} 1.0',
    'm_bucket{a="\\"",k="v",le="\\\\\\"",z="\\n"} 2.0',
    'm_bucket{a="\\"",k="v",le="+Inf",z="\\n"} 3.0',
    'm_count{a="\\"",k="v",z="\\n"} 3.0',
    'm_sum{a="\\"",k="v",z="\\n"} 0.5',
  ]);
});

it("writes a label of the sample's own where there are no others", async () => {
  const samples: Family["samples"] = [
    { suffix: "", labels: {}, own: ["le", "1.0"], value: 1 },
    { labels: {}, limits: ["1.0", "+Inf"], counts: [1, 2], sum: 3 },
  ];
  const written = await writeText([{ name: "m", type: "histogram", help: "", samples }], "text");
  expect(written.split("\n").slice(2, -1)).toEqual([
    'm{le="1.0"} 1.0',
    'm_bucket{le="1.0"} 1.0',
    'm_bucket{le="+Inf"} 2.0',
    "m_count 2.0",
    "m_sum 3.0",
  ]);
});
