/** The text formats of Prometheus, written as its Python client writes them: celery-exporter's users have these very texts in their queries. */

export type Format = "text" | "openmetrics";

export interface Family {
  /** Without `_total`. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** Made when they are written, where there are very many. */
  readonly samples: Iterable<Sample>;
}

export interface Sample {
  /** What follows the family's name, such as `_bucket`. */
  readonly suffix: string;
  /** Samples that share this object are written faster. */
  readonly labels: Readonly<Record<string, string>>;
  /** One more label, which differs between samples of the same labels, such as `le`. */
  readonly own?: readonly [name: string, value: string];
  readonly value: number;
}

/** The suffix of samples that say when a counter or histogram began, in seconds since the epoch. */
export const CREATED = "_created";

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** The format that a client prefers; text unless it names OpenMetrics, as Prometheus does. */
export function formatFor(accept = ""): Format {
  const wanted = accept.split(",").map((part) => part.trim());
  const qualityOf = (type: string): number => {
    const part = wanted.find((each) => each.split(";")[0]?.trim() === type);
    return part === undefined ? 0 : Number(/;\s*q=([\d.]+)/.exec(part)?.[1] ?? 1);
  };
  const openmetrics = qualityOf("application/openmetrics-text");
  return openmetrics > 0 && openmetrics >= qualityOf("text/plain") ? "openmetrics" : "text";
}

/**
 * Writes families in the given order. The text format 0.0.4 has no samples with the suffix `_created`: there they are a gauge after the family.
 *
 * @param more labels to add to every series.
 */
export function writeText(families: readonly Family[], format: Format, more: Readonly<Record<string, string>> = {}): string {
  return [...writeFamilies(families, format, more)].join("");
}

/** Characters that are written at a time. */
const PART = 65_536;

/** Writes a part at a time, so that other work gets its turn, and samples need not all be in memory. */
export function* writeFamilies(
  families: readonly Family[],
  format: Format,
  more: Readonly<Record<string, string>> = {},
): Generator<string, void, void> {
  const writer = new LabelWriter(more);
  for (const { name, type, help, samples } of families) {
    const header = (shown: string, ofType: Family["type"]): string =>
      `# HELP ${shown} ${escapeHelp(help, format)}\n# TYPE ${shown} ${ofType}\n`;
    let lines = header(format === "text" && type === "counter" ? `${name}_total` : name, type);
    let created = "";
    for (const { suffix, labels, own, value } of samples) {
      const [before, after] = writer.partsOf(labels, own?.[0] ?? "");
      const shown = own === undefined ? before : `${before}${escapeValue(own[1])}${after}`;
      const line = `${name}${suffix}${shown} ${writeNumber(value)}\n`;
      if (format === "text" && suffix === CREATED) created += line;
      else lines += line;
      if (lines.length < PART) continue;
      yield lines;
      lines = "";
    }
    yield created === "" ? lines : `${lines}${header(`${name}${CREATED}`, "gauge")}${created}`;
  }
  if (format === "openmetrics") yield "# EOF\n";
}

type Written = readonly [before: string, after: string];

/** Writes each object of labels only once, as what comes before and after a sample's own label: there are about 40 samples of each. */
class LabelWriter {
  readonly #more: Readonly<Record<string, string>>;
  /** By the name of the sample's own label. */
  readonly #written = new Map<string, Map<Sample["labels"], Written>>();
  /** Most samples have the labels of the one before. */
  #last: { readonly labels: Sample["labels"]; readonly own: string; readonly parts: Written } | undefined;

  constructor(more: Readonly<Record<string, string>>) {
    this.#more = more;
  }

  /** @param own the name of the sample's own label; empty if it has none. */
  partsOf(labels: Sample["labels"], own: string): Written {
    if (this.#last?.labels === labels && this.#last.own === own) return this.#last.parts;
    let written = this.#written.get(own);
    if (written === undefined) this.#written.set(own, (written = new Map<Sample["labels"], Written>()));
    let parts = written.get(labels);
    if (parts === undefined) written.set(labels, (parts = this.#parts(labels, own)));
    this.#last = { labels, own, parts };
    return parts;
  }

  #parts(labels: Sample["labels"], own: string): Written {
    const all: Readonly<Record<string, string>> = { ...this.#more, ...labels };
    const pairs = (names: readonly string[]): string[] => names.map((name) => `${name}="${escapeValue(all[name] ?? "")}"`);
    const names = Object.keys(all)
      .filter((name) => name !== own)
      .toSorted();
    if (own === "") return [names.length === 0 ? "" : `{${pairs(names).join(",")}}`, ""];
    const [before, after] = [names.filter((name) => name < own), names.filter((name) => name > own)];
    return [`{${[...pairs(before), `${own}="`].join(",")}`, `${['"', ...pairs(after)].join(",")}}`];
  }
}

const NEEDS_ESCAPE = /[\\"\n]/;

function escapeValue(value: string): string {
  return NEEDS_ESCAPE.test(value) ? value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"') : value;
}

function escapeHelp(help: string, format: Format): string {
  const escaped = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return format === "openmetrics" ? escaped.replaceAll('"', '\\"') : escaped;
}

/** A number as the Python client writes a float: `1.0`, `0.005`, `1e-05`, `1e+06`, `+Inf`. From a million on, it imitates Go: `1e+06`, but `1e+010`. */
export function writeNumber(value: number): string {
  // Nearly every number.
  if (Number.isInteger(value) && (value > 0 || Object.is(value, 0)) && value < 1e6) return `${value}.0`;
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  if (Number.isNaN(value)) return "NaN";
  const [digits = "", exponent = ""] = value.toExponential().split("e");
  const [sign, power] = [exponent[0] ?? "+", exponent.slice(1)];
  if (value >= 1e6 && value < 1e16) return `${digits}e+0${power}`;
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return `${Object.is(value, -0) ? "-0" : value}.0`;
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e16) return String(value);
  return `${digits}e${sign}${power.padStart(2, "0")}`;
}
