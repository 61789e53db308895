/** What a scrape shows. */

/** By series, as written: `name{label="value",…}`. */
export type Scrape = ReadonlyMap<string, number>;

export function parseScrape(text: string): Scrape {
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (line !== "" && !line.startsWith("#")) series.set(line.slice(0, space), Number(line.slice(space + 1).replace("+Inf", "Infinity")));
  }
  return series;
}

/** The series that are not 0, by metric and by `name|queue_name` with the exception or bucket, as in the corpus. Without the buckets up to infinity. */
export function byTask(series: Scrape): Record<string, Record<string, number>> {
  const metrics: Record<string, Record<string, number>> = {};
  for (const [written, value] of series) {
    const [, metric = "", labels = ""] = /^(\w+)\{(.*)\}$/.exec(written) ?? [];
    const values = Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label = "", text = ""]) => [label, text]));
    if (value === 0 || values["name"] === undefined || values["le"] === "+Inf") continue;
    const last = values["exception"] ?? (values["le"] === undefined ? undefined : String(Number(values["le"])));
    const key = [values["name"], values["queue_name"], last].filter((part) => part !== undefined).join("|");
    (metrics[metric] ??= {})[key] = value;
  }
  return metrics;
}
