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

/** Gathers values by metric and tags, so that each series is sent once. */
export class SeriesCollector {
  readonly #series = new Map<string, Series & { values: number[] }>();

  /** Adds to a count. */
  count(name: string, tags: string, by: number): void {
    const { values } = this.#of(name, "c", tags);
    values[0] = (values[0] ?? 0) + by;
  }

  /** Adds a sample. */
  sample(name: string, type: MetricType, tags: string, value: number): void {
    this.#of(name, type, tags).values.push(value);
  }

  all(): Series[] {
    return [...this.#series.values()];
  }

  #of(name: string, type: MetricType, tags: string): Series & { values: number[] } {
    const key = `${name}|${tags}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { name, type, tags, values: [] };
      this.#series.set(key, series);
    }
    return series;
  }
}
