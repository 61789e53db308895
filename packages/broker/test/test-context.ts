/** A source's context, with logs kept for assertions. */
import { Health, Metrics, type Logger } from "@celery-metrics-exporter/runtime";
import { pino } from "pino";
import type { SourceContext } from "../src/source/source.ts";

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface TestContext extends SourceContext {
  readonly health: Health;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly logs: LogLine[];
  metric(name: string): Promise<number>;
}

export function testContext(startupTimeoutMs = 10_000): TestContext {
  const logs: LogLine[] = [];
  const metrics = new Metrics();
  return {
    health: new Health(),
    metrics,
    logger: pino({ level: "debug" }, { write: (line: string) => void logs.push(JSON.parse(line) as LogLine) }),
    logs,
    startupTimeoutMs,
    async metric(name) {
      const metric = metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`);
      const { values } = (await metric?.get()) ?? { values: [] };
      return values.reduce((sum, { value }) => sum + value, 0);
    },
  };
}
