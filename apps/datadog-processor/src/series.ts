/** What DogStatsD takes: values of one metric with one set of tags. */

/** DogStatsD's letters: count, distribution, histogram, timing. */
export type MetricType = "c" | "d" | "h" | "ms";

export interface Series {
  readonly name: string;
  readonly type: MetricType;
  /** Normalised and joined by commas. */
  readonly tags: string;
  /** A count has one: the sum. */
  readonly values: readonly number[];
}

interface OpenSeries extends Series {
  readonly values: number[];
}

/** Gathers values by metric and tags, so that each series is sent once. */
export class SeriesCollector {
  readonly #metrics = new Map<string, Map<string, OpenSeries>>();

  /** Adds to a count. */
  count(name: string, tags: string, by: number): void {
    const { values } = this.#of(name, "c", tags);
    values[0] = (values[0] ?? 0) + by;
  }

  /** Adds a sample. */
  sample(name: string, type: MetricType, tags: string, value: number): void {
    this.#of(name, type, tags).values.push(value);
  }

  /** Adds a whole series to the one with the same name and tags. */
  addAll({ name, type, tags, values }: Series): void {
    if (type === "c") for (const value of values) this.count(name, tags, value);
    else for (const value of values) this.sample(name, type, tags, value);
  }

  all(): Series[] {
    return [...this.#metrics.values()].flatMap((series) => [...series.values()]);
  }

  #of(name: string, type: MetricType, tags: string): OpenSeries {
    let metric = this.#metrics.get(name);
    if (metric === undefined) {
      metric = new Map();
      this.#metrics.set(name, metric);
    }
    let series = metric.get(tags);
    if (series === undefined) {
      series = { name, type, tags, values: [] };
      metric.set(tags, series);
    }
    return series;
  }
}
