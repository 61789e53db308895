/** The few figures of the benchmark in docs/performance.md: medians, several figures on one line. */
import { formatNumber, median } from "./figure.ts";
import { renderTable } from "./table.ts";
import type { Results } from "./results.ts";

interface Summary {
  readonly unit: string;
  readonly columns: readonly string[];
  /** The label of each line, and the name of its figure in a column. */
  readonly lines: Readonly<Record<string, (column: string) => string>>;
}

/** By the scenario's name. */
const SUMMARIES: Readonly<Record<string, Summary>> = {
  cpu: {
    unit: "µs CPU per event",
    columns: ["RabbitMQ, multi", "RabbitMQ, single", "Redis, multi", "Redis, single"],
    lines: {
      receiver: (column) => `receiver (${column})`,
      "broker, for the receiver": (column) => `— ${column.startsWith("Redis") ? "broker Redis" : "RabbitMQ"}, for the receiver (${column})`,
      "datadog-processor": (column) => `datadog-processor (${column})`,
      "Redis, for the datadog-processor": (column) => `— Redis, for the datadog-processor (${column})`,
      "postgres-processor": (column) => `postgres-processor (${column})`,
      "PostgreSQL, for the postgres-processor": (column) => `— PostgreSQL, for the postgres-processor (${column})`,
    },
  },
  sustained: {
    unit: "",
    columns: ["RabbitMQ", "Redis"],
    lines: {
      "events per second": (column) => `${column}: whole pipeline`,
      "ms until the row is committed, p50": (column) => `${column}: row committed, p50`,
      "ms until the row is committed, p99": (column) => `${column}: row committed, p99`,
      "ms until the metrics are sent, p50": (column) => `${column}: metrics sent, p50`,
      "ms until the metrics are sent, p99": (column) => `${column}: metrics sent, p99`,
    },
  },
};

/** Undefined for a scenario that has no summary, or was not run. */
export function summaryOf(name: string, results: Results): string | undefined {
  const [summary, section] = [SUMMARIES[name], results[name]];
  if (summary === undefined || section === undefined) return undefined;
  const rows = Object.entries(summary.lines).map(([label, figureName]) => [
    label,
    ...summary.columns.map((column) => {
      const figure = section.figures.find((candidate) => candidate.name === figureName(column));
      if (figure === undefined) throw new Error(`the scenario ${name} has no figure "${figureName(column)}"`);
      return formatNumber(median(figure.rounds));
    }),
  ]);
  return renderTable([[summary.unit, ...summary.columns], ...rows]);
}
