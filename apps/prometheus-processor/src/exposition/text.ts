/** The text formats of Prometheus, written as its Python client writes them: celery-exporter's users have these very texts in their queries. */

export type Format = "text" | "openmetrics";

export interface Family {
  /** Without `_total`. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** What follows the family's name, such as `_bucket`. */
  readonly suffix: string;
  readonly labels: Readonly<Record<string, string>>;
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
  const lines: string[] = [];
  const write = (shown: string, type: Family["type"], { name, help, samples }: Family): void => {
    lines.push(`# HELP ${shown} ${escapeHelp(help, format)}`, `# TYPE ${shown} ${type}`);
    for (const { suffix, labels, value } of samples)
      lines.push(`${name}${suffix}${writeLabels({ ...more, ...labels })} ${writeNumber(value)}`);
  };
  for (const family of families) {
    const { name, type, samples } = family;
    if (format === "openmetrics") {
      write(name, type, family);
      continue;
    }
    const created = samples.filter(isCreated);
    write(type === "counter" ? `${name}_total` : name, type, { ...family, samples: samples.filter((sample) => !isCreated(sample)) });
    if (created.length > 0) write(`${name}${CREATED}`, "gauge", { ...family, samples: created });
  }
  if (format === "openmetrics") lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

function isCreated({ suffix }: Sample): boolean {
  return suffix === CREATED;
}

function writeLabels(labels: Readonly<Record<string, string>>): string {
  const names = Object.keys(labels).toSorted();
  return names.length === 0 ? "" : `{${names.map((name) => `${name}="${escapeValue(labels[name] ?? "")}"`).join(",")}}`;
}

function escapeValue(value: string): string {
  return /[\\"\n]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"') : value;
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
  const [digits = "", exponent = ""] = value.toExponential().split("e");
  const [sign, power] = [exponent[0] ?? "+", exponent.slice(1)];
  if (value >= 1e6 && value < 1e16) return `${digits}e+0${power}`;
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return `${Object.is(value, -0) ? "-0" : value}.0`;
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e16) return String(value);
  return `${digits}e${sign}${power.padStart(2, "0")}`;
}
