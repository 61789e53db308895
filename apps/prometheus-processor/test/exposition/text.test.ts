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
      { labels: { name: "a" }, limits: ["10.0", "+Inf"], counts: [1, 2] },
      { suffix: "_count", labels: { name: "a" }, value: 2 },
      { suffix: "_sum", labels: { name: "a" }, value: 1e-5 },
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

/** Says when these labels' counter began. */
function created(labels: Sample["labels"]): Sample {
  return { suffix: "_created", labels, value: 1_764_447_000 };
}

describe("samples that say when a counter began", () => {
  const families: readonly Family[] = [
    {
      name: "celery_task_sent",
      type: "counter",
      help: "Sent.",
      samples: [
        { suffix: "_total", labels: { name: "a" }, value: 1 },
        created({ name: "a" }),
        { suffix: "_total", labels: { name: "b" }, value: 2 },
        created({ name: "b" }),
      ],
    },
    { name: "celery_queue_length", type: "gauge", help: "How long.", samples: [{ suffix: "", labels: {}, value: 1 }] },
  ];

  it("are a gauge after the family in the text format", async () => {
    expect(await writeText(families, "text", { env: "x" })).toBe(`# HELP celery_task_sent_total Sent.
# TYPE celery_task_sent_total counter
celery_task_sent_total{env="x",name="a"} 1.0
celery_task_sent_total{env="x",name="b"} 2.0
# HELP celery_task_sent_created Sent.
# TYPE celery_task_sent_created gauge
celery_task_sent_created{env="x",name="a"} 1.764447e+09
celery_task_sent_created{env="x",name="b"} 1.764447e+09
# HELP celery_queue_length How long.
# TYPE celery_queue_length gauge
celery_queue_length{env="x"} 1.0
`);
  });

  it("are in the family in OpenMetrics, each after its counter", async () => {
    expect(await writeText(families.slice(0, 1), "openmetrics")).toBe(`# HELP celery_task_sent Sent.
# TYPE celery_task_sent counter
celery_task_sent_total{name="a"} 1.0
celery_task_sent_created{name="a"} 1.764447e+09
celery_task_sent_total{name="b"} 2.0
celery_task_sent_created{name="b"} 1.764447e+09
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

it("takes samples as it writes them, so that neither a large family nor its text is ever in memory as a whole", async () => {
  let taken = 0;
  const labels = { name: "a".repeat(1_000) };
  function* samples(): Generator<Sample> {
    for (; taken < 1_000; taken += 1) yield { suffix: "_total", labels, own: ["exception", `E${taken}`], value: taken };
  }
  const family: Family = { name: "celery_task_failed", type: "counter", help: "Failed.", samples: samples() };
  const parts: Buffer[] = [];
  for await (const part of new TextWriter("text").write([family])) {
    parts.push(part);
    expect(part.length).toBeLessThan(70_000);
    expect(taken).toBeLessThan(70 * parts.length);
  }
  expect(parts.length).toBeGreaterThan(10);
  const lines = Buffer.concat(parts).toString().split("\n");
  expect(lines).toHaveLength(1_003);
  expect(lines.at(-2)).toMatch(/^celery_task_failed_total.*exception="E999".* 999\.0$/);
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
  const written = await writeText(
    [
      {
        name: "m",
        type: "histogram",
        help: "",
        samples: [
          { suffix: "_bucket", labels: {}, own: ["le", "1.0"], value: 1 },
          { suffix: "_bucket", labels: { a: '"', z: "\n" }, own: ["le", '\\"'], value: 1 },
          { labels: { a: '"', z: "\n" }, limits: ["1.0", '\\"'], counts: [1, 2] },
        ],
      },
    ],
    "text",
    { k: "v" },
  );
  const lines = written.split("\n");
  expect(lines.slice(2, 6)).toEqual([
    'm_bucket{k="v",le="1.0"} 1.0',
    'm_bucket{a="\\"",k="v",le="\\\\\\"",z="\\n"} 1.0',
    'm_bucket{a="\\"",k="v",le="1.0",z="\\n"} 1.0',
    'm_bucket{a="\\"",k="v",le="\\\\\\"",z="\\n"} 2.0',
  ]);
});
