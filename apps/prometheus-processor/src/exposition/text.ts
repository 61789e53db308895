/** The text formats of Prometheus, written as its Python client writes them: celery-exporter's users have these very texts in their queries. */
import { setImmediate as othersTurn } from "node:timers/promises";

export type Format = "text" | "openmetrics";

export interface Family {
  /** Without `_total`. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** Made when they are written, where there are very many. */
  readonly samples: Iterable<Sample | Buckets>;
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

/** The buckets of a histogram. */
export interface Buckets {
  readonly labels: Sample["labels"];
  /** Upper limits, as written. Buckets that share this list are written faster. */
  readonly limits: readonly string[];
  /** How many values each limit includes. Only read before the next sample is taken. */
  readonly counts: ArrayLike<number>;
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

/** Bytes of a part. Other work gets its turn after each. */
const PART = 65_536;

type Written = readonly [before: Uint8Array, after: Uint8Array];

/**
 * Writes families again and again. What labels and names look like is kept for the next time, as bytes, for as long as somebody keeps the objects of the
 * labels: a scrape has about 40 samples of each, and the next one has the same.
 */
export class TextWriter {
  readonly #format: Format;
  readonly #more: Readonly<Record<string, string>>;
  /** By the name of the sample's own label. */
  readonly #labels = new WeakMap<Sample["labels"], Map<string, Written>>();
  readonly #values = new WeakMap<NonNullable<Sample["own"]>, Uint8Array>();
  readonly #limits = new WeakMap<Buckets["limits"], readonly Uint8Array[]>();
  /** Most samples have the labels of the one before. */
  #last: { readonly labels: Sample["labels"]; readonly own: string; readonly parts: Written } | undefined;

  /** @param more labels to add to every series. */
  constructor(format: Format, more: Readonly<Record<string, string>> = {}) {
    this.#format = format;
    this.#more = more;
  }

  /**
   * Writes families in the given order, in parts, at least one. Samples are taken as they are written, so neither they nor the text need to be in memory as a
   * whole, and other work gets its turn in between. The text format 0.0.4 has no samples with the suffix `_created`: there they are a gauge after the family.
   */
  async *write(families: readonly Family[]): AsyncGenerator<Buffer, undefined> {
    const output = new Output();
    for (const { name, type, help, samples } of families) {
      const header = (shown: string, ofType: Family["type"]): void =>
        output.text(`# HELP ${shown} ${escapeHelp(help, this.#format)}\n# TYPE ${shown} ${ofType}\n`);
      header(this.#format === "text" && type === "counter" ? `${name}_total` : name, type);
      const names = new Map<string, Uint8Array>();
      const created: Sample[] = [];
      for (const sample of samples) {
        if ("limits" in sample) this.#buckets(output, name, names, sample);
        else if (this.#format === "text" && sample.suffix === CREATED) created.push(sample);
        else this.#line(output, name, names, sample);
        if (output.length < PART) continue;
        yield output.take();
        await othersTurn();
      }
      if (created.length === 0) continue;
      header(`${name}${CREATED}`, "gauge");
      for (const sample of created) this.#line(output, name, names, sample);
    }
    if (this.#format === "openmetrics") output.text("# EOF\n");
    yield output.take();
  }

  #line(output: Output, family: string, names: Map<string, Uint8Array>, { suffix, labels, own, value }: Sample): void {
    const [before, after] = this.#partsOf(labels, own?.[0] ?? "");
    output.add(nameOf(family, names, suffix));
    output.add(before);
    if (own !== undefined) output.add(this.#valueOf(own));
    output.add(after);
    output.number(value);
  }

  #buckets(output: Output, family: string, names: Map<string, Uint8Array>, { labels, limits, counts }: Buckets): void {
    const [before, after] = this.#partsOf(labels, "le");
    const begin = Buffer.concat([nameOf(family, names, "_bucket"), before]);
    let written = this.#limits.get(limits);
    if (written === undefined) this.#limits.set(limits, (written = limits.map((limit) => Buffer.from(escapeValue(limit)))));
    for (let index = 0; index < written.length; index += 1) {
      output.add(begin);
      output.add(written[index] ?? NOTHING);
      output.add(after);
      output.number(counts[index] ?? 0);
    }
  }

  #valueOf(own: NonNullable<Sample["own"]>): Uint8Array {
    let value = this.#values.get(own);
    if (value === undefined) this.#values.set(own, (value = Buffer.from(escapeValue(own[1]))));
    return value;
  }

  /** @param own the name of the sample's own label; empty if it has none. */
  #partsOf(labels: Sample["labels"], own: string): Written {
    if (this.#last?.labels === labels && this.#last.own === own) return this.#last.parts;
    let written = this.#labels.get(labels);
    if (written === undefined) this.#labels.set(labels, (written = new Map<string, Written>()));
    let parts = written.get(own);
    if (parts === undefined) written.set(own, (parts = this.#write(labels, own)));
    this.#last = { labels, own, parts };
    return parts;
  }

  /** What comes before and after the sample's own label, up to the value. */
  #write(labels: Sample["labels"], own: string): Written {
    const all: Readonly<Record<string, string>> = { ...this.#more, ...labels };
    const pairs = (names: readonly string[]): string[] => names.map((name) => `${name}="${escapeValue(all[name] ?? "")}"`);
    const names = Object.keys(all)
      .filter((name) => name !== own)
      .toSorted();
    if (own === "") return [Buffer.from(names.length === 0 ? " " : `{${pairs(names).join(",")}} `), NOTHING];
    const [before, after] = [names.filter((name) => name < own), names.filter((name) => name > own)];
    return [Buffer.from(`{${[...pairs(before), `${own}="`].join(",")}`), Buffer.from(`${['"', ...pairs(after)].join(",")}} `)];
  }
}

const NOTHING = Buffer.alloc(0);

function nameOf(family: string, names: Map<string, Uint8Array>, suffix: string): Uint8Array {
  let name = names.get(suffix);
  if (name === undefined) names.set(suffix, (name = Buffer.from(`${family}${suffix}`)));
  return name;
}

/** Below this, a loop is faster than a call. */
const SHORT = 16;
const DIGIT_0 = 48;
/** A part, and what is written beyond it at once. */
const FIRST_CAPACITY = PART + 8_192;
const END_OF_COUNT = Buffer.from(".0\n");

/** Bytes that become more. */
class Output {
  #bytes = NOTHING;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Everything since the last time. */
  take(): Buffer {
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#bytes = NOTHING;
    this.#length = 0;
    return bytes;
  }

  add(bytes: Uint8Array): void {
    this.#makeRoom(bytes.length);
    if (bytes.length < SHORT) for (let index = 0; index < bytes.length; index += 1) this.#bytes[this.#length + index] = bytes[index] ?? 0;
    else this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  text(text: string): void {
    this.add(Buffer.from(text));
  }

  /** With the end of the line. */
  number(value: number): void {
    // Nearly every number.
    if (!Number.isInteger(value) || value < 0 || value >= 1e6 || Object.is(value, -0)) return this.text(`${writeNumber(value)}\n`);
    let digits = 1;
    for (let power = 10; power <= value; power *= 10) digits += 1;
    this.#makeRoom(digits);
    for (let rest = value, at = this.#length + digits - 1; at >= this.#length; at -= 1) {
      const next = Math.trunc(rest / 10);
      this.#bytes[at] = DIGIT_0 + rest - next * 10;
      rest = next;
    }
    this.#length += digits;
    this.add(END_OF_COUNT);
  }

  #makeRoom(size: number): void {
    if (this.#length + size <= this.#bytes.length) return;
    // Not from Node's pool, which would keep it longer than needed.
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + size, FIRST_CAPACITY));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
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
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  if (Number.isNaN(value)) return "NaN";
  const size = Math.abs(value);
  // Nearly every one that is not whole.
  if (size >= 1e-4 && size < 1e6 && !Number.isInteger(value)) return String(value);
  const [digits = "", exponent = ""] = value.toExponential().split("e");
  const [sign, power] = [exponent[0] ?? "+", exponent.slice(1)];
  if (value >= 1e6 && value < 1e16) return `${digits}e+0${power}`;
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return `${Object.is(value, -0) ? "-0" : value}.0`;
  if (size >= 1e-4 && size < 1e16) return String(value);
  return `${digits}e${sign}${power.padStart(2, "0")}`;
}
