/** The text formats of Prometheus, written as its Python client writes them: celery-exporter's users have these very texts in their queries. */
import { setImmediate as othersTurn } from "node:timers/promises";

export type Format = "text" | "openmetrics";

export interface Family {
  /** Without `_total`. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** Made when they are written, where there are very many. Read twice if they say when they began. */
  readonly samples: Iterable<Sample | Histogram>;
}

interface Labelled {
  /** Samples that share this object are written faster. */
  readonly labels: Readonly<Record<string, string>>;
  /** When it began, in seconds since the epoch, if that is shown. */
  readonly created?: number | undefined;
}

export interface Sample extends Labelled {
  /** What follows the family's name: `_total` or nothing. */
  readonly suffix: string;
  /** One more label, which differs between samples of the same labels. */
  readonly own?: readonly [name: string, value: string] | undefined;
  readonly value: number;
}

export interface Histogram extends Labelled {
  /** Upper limits, as written. The last one is infinity. */
  readonly limits: readonly string[];
  /** How many values each limit includes. Only read before the next sample is taken. */
  readonly counts: ArrayLike<number>;
  readonly sum: number;
}

/** The suffix of lines that say when a counter or histogram began. */
const CREATED = "_created";

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

/** Bytes of a part. Other work gets its turn after each, which takes about a millisecond. Compressing many small parts costs more than a few large ones. */
const PART = 262_144;

/** Labels as bytes: `{a="1",b="2"} `. */
interface Written {
  readonly bytes: Uint8Array;
  /** In order. */
  readonly names: readonly string[];
  /** Where each label begins, and where one more would. */
  readonly starts: readonly number[];
}

/**
 * Writes families again and again. Labels are kept for the next time, as bytes, for as long as somebody keeps their objects: a scrape has about 60 lines of
 * each, and the next one has the same.
 */
export class TextWriter {
  readonly #format: Format;
  readonly #more: Readonly<Record<string, string>>;
  readonly #labels = new WeakMap<Labelled["labels"], Written>();

  /** @param more labels to add to every series. */
  constructor(format: Format, more: Readonly<Record<string, string>> = {}) {
    this.#format = format;
    this.#more = more;
  }

  /**
   * Writes families in the given order, in parts, at least one. A part is valid until the next one is taken. Samples are taken as they are written, so neither
   * they nor the text need to be in memory as a whole, and other work gets its turn in between. The text format 0.0.4 has no lines with the suffix `_created` in
   * a family: there they are a gauge after it.
   */
  async *write(families: readonly Family[]): AsyncGenerator<Buffer, undefined> {
    const output = new Output();
    for (const family of families) {
      for (const _ of this.#write(output, family)) {
        if (output.length < PART) continue;
        yield output.take();
        await othersTurn();
      }
    }
    if (this.#format === "openmetrics") output.text("# EOF\n");
    yield output.take();
  }

  /** Pauses after each sample. */
  *#write(output: Output, family: Family): Generator<void, undefined> {
    const { name, type, help } = family;
    const isText = this.#format === "text";
    const header = (shown: string, ofType: Family["type"]): void =>
      output.text(`# HELP ${shown} ${escapeHelp(help, this.#format)}\n# TYPE ${shown} ${ofType}\n`);
    header(isText && type === "counter" ? `${name}_total` : name, type);
    const lines = new Lines(output, name);
    let hasGauge = false;
    for (const sample of family.samples) {
      const written = this.#writtenOf(sample);
      if ("limits" in sample) lines.histogram(written, sample);
      else lines.sample(written, sample);
      if (sample.created !== undefined && isText) hasGauge = true;
      else lines.created(written, sample);
      yield;
    }
    if (!hasGauge) return;
    header(`${name}${CREATED}`, "gauge");
    for (const sample of family.samples) {
      lines.created(this.#writtenOf(sample), sample);
      yield;
    }
  }

  #writtenOf(sample: Sample | Histogram): Written {
    const { labels } = sample;
    const own = "own" in sample ? sample.own?.[0] : undefined;
    if (own !== undefined && own in this.#more) {
      // A sample's own label comes first.
      const others = Object.entries(this.#more).filter(([name]) => name !== own);
      return writeLabels({ ...Object.fromEntries(others), ...labels });
    }
    let written = this.#labels.get(labels);
    if (written === undefined) this.#labels.set(labels, (written = writeLabels({ ...this.#more, ...labels })));
    return written;
  }
}

function writeLabels(labels: Readonly<Record<string, string>>): Written {
  const names = Object.keys(labels).toSorted();
  const pairs = names.map((name) => `${name}="${escapeValue(labels[name] ?? "")}"`);
  const starts = ["{".length];
  for (const [index, pair] of pairs.entries()) starts.push((starts[index] ?? 0) + Buffer.byteLength(pair) + ",".length);
  // No comma follows the last one.
  if (pairs.length > 0) starts.push((starts.pop() ?? 0) - ",".length);
  return { bytes: Buffer.from(`{${pairs.join(",")}} `), names, starts };
}

/** Writes the lines of a family. */
class Lines {
  readonly #output: Output;
  readonly #family: string;
  readonly #names = new Map<string, Uint8Array>();
  #limits: readonly string[] = [];
  #writtenLimits: readonly Uint8Array[] = [];

  constructor(output: Output, family: string) {
    this.#output = output;
    this.#family = family;
  }

  sample(written: Written, { suffix, own, value }: Sample): void {
    this.#labels(written, suffix, own);
    this.#output.number(value);
  }

  histogram(written: Written, { limits, counts, sum }: Histogram): void {
    if (this.#limits !== limits) {
      this.#limits = limits;
      this.#writtenLimits = limits.map((limit) => Buffer.from(escapeValue(limit)));
    }
    const output = this.#output;
    // What the lines of the buckets have in common is copied from the first one.
    const begin = output.length;
    const first = this.#writtenLimits[0] ?? NOTHING;
    const limit = this.#labels(written, "_bucket", ["le", limits[0] ?? ""]);
    const [limitEnd, end] = [limit + first.length, output.length];
    output.number(counts[0] ?? 0);
    for (let index = 1; index < limits.length; index += 1) {
      output.again(begin, limit);
      output.add(this.#writtenLimits[index] ?? NOTHING);
      output.again(limitEnd, end);
      output.number(counts[index] ?? 0);
    }
    this.#labels(written, "_count");
    output.number(counts[limits.length - 1] ?? 0);
    this.#labels(written, "_sum");
    output.number(sum);
  }

  /** Nothing if that is not shown. */
  created(written: Written, sample: Sample | Histogram): void {
    if (sample.created === undefined) return;
    this.#labels(written, CREATED, "own" in sample ? sample.own : undefined);
    this.#output.number(sample.created);
  }

  /** Everything before the value. Returns where the value of the sample's own label begins. */
  #labels(written: Written, suffix: string, own?: Sample["own"]): number {
    const output = this.#output;
    output.add(this.#nameOf(suffix));
    const { bytes, names, starts } = written;
    const begin = output.length;
    if (own === undefined) {
      output.add(names.length === 0 ? SPACE : bytes);
      return begin;
    }
    const [name, value] = own;
    let index = 0;
    while (index < names.length && (names[index] ?? "") < name) index += 1;
    output.add(bytes);
    const at = begin + (starts[index] ?? 0);
    const pair = `${name}="${escapeValue(value)}"`;
    const isLast = index === names.length;
    output.insert(at, Buffer.from(!isLast ? `${pair},` : index === 0 ? pair : `,${pair}`));
    return at + name.length + '="'.length + (isLast && index > 0 ? 1 : 0);
  }

  #nameOf(suffix: string): Uint8Array {
    let name = this.#names.get(suffix);
    if (name === undefined) this.#names.set(suffix, (name = Buffer.from(`${this.#family}${suffix}`)));
    return name;
  }
}

const NOTHING = Buffer.alloc(0);
const SPACE = Buffer.from(" ");
const END_OF_COUNT = Buffer.from(".0\n");
const DIGIT_0 = 48;
/** Below this, a loop is faster than a call. */
const SHORT = 8;
/** A part, and what is written beyond it at once. */
const FIRST_CAPACITY = PART + 8_192;
/** Of a character. */
const MOST_BYTES = 3;

/** Bytes that become more. The same memory is used for one part after the other. */
class Output {
  #bytes = Buffer.allocUnsafeSlow(FIRST_CAPACITY);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Everything since the last time. It is overwritten by what is added next. */
  take(): Buffer {
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return bytes;
  }

  add(bytes: Uint8Array): void {
    this.#makeRoom(bytes.length);
    if (bytes.length < SHORT) for (let index = 0; index < bytes.length; index += 1) this.#bytes[this.#length + index] = bytes[index] ?? 0;
    else this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Adds what is there already. */
  again(from: number, to: number): void {
    this.#makeRoom(to - from);
    this.#bytes.copyWithin(this.#length, from, to);
    this.#length += to - from;
  }

  insert(at: number, bytes: Uint8Array): void {
    this.#makeRoom(bytes.length);
    this.#bytes.copyWithin(at + bytes.length, at, this.#length);
    this.#bytes.set(bytes, at);
    this.#length += bytes.length;
  }

  text(text: string): void {
    this.#makeRoom(text.length * MOST_BYTES);
    this.#length += this.#bytes.write(text, this.#length);
  }

  /** With the end of the line. */
  number(value: number): void {
    // Nearly every number.
    if (!Number.isInteger(value) || value < 0 || value >= 1e6 || Object.is(value, -0)) return this.text(`${writeNumber(value)}\n`);
    let digits = 1;
    for (let power = 10; power <= value; power *= 10) digits += 1;
    this.#makeRoom(digits);
    const own = this.#bytes;
    for (let rest = value, at = this.#length + digits - 1; at >= this.#length; at -= 1) {
      const next = Math.trunc(rest / 10);
      own[at] = DIGIT_0 + rest - next * 10;
      rest = next;
    }
    this.#length += digits;
    this.add(END_OF_COUNT);
  }

  #makeRoom(size: number): void {
    if (this.#length + size <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + size));
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
