/** Evaluates the expressions of dashboards on a real Prometheus. */
import type { PrometheusServer } from "@celery-metrics-exporter/testkit";
import { labelValues, withoutVariables, type Located } from "./grafana.ts";

export class Evaluation {
  readonly #prometheus: PrometheusServer;
  readonly #values: Readonly<Record<string, string>>;
  readonly #began = Date.now();

  /** What comes from now on counts. @param values of Grafana's variables; the others are “All”. */
  constructor(prometheus: PrometheusServer, values: Readonly<Record<string, string>>) {
    this.#prometheus = prometheus;
    this.#values = values;
  }

  /** The places of what would be an empty panel, or one that shows an error. */
  async withoutData(expressions: readonly Located[], values: Readonly<Record<string, string>> = {}): Promise<string[]> {
    const results = await Promise.all(
      expressions.map(async ([place, expression]) => {
        const series = await this.#series(expression, values);
        return series.some((one) => one.values.some((value) => Number.isFinite(value))) ? [] : [place];
      }),
    );
    return results.flat();
  }

  /** The queries of variables that would offer nothing. */
  async withoutChoice(queries: readonly string[], values: Readonly<Record<string, string>> = {}): Promise<string[]> {
    const results = await Promise.all(
      queries.map(async (query) => {
        const { selector, label } = labelValues(query);
        const series = await this.#series(`count by (${label}) (${selector})`, values);
        return series.some(({ metric }) => metric[label] !== undefined) ? [] : [query];
      }),
    );
    return results.flat();
  }

  #series(expression: string, values: Readonly<Record<string, string>>): ReturnType<PrometheusServer["queryRange"]> {
    return this.#prometheus.queryRange(withoutVariables(expression, { ...this.#values, ...values }), this.#began);
  }
}
