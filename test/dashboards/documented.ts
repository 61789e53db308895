/** What docs/prometheus.md, docs/metrics.md and the README of the Datadog exporter say that we export. */
import { parse } from "yaml";
import { readText } from "../invariants/workspace.ts";

const PREFIX = "celery_metrics_exporter_";

export interface DocumentedMetric {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
}

/** The tables of docs/prometheus.md, without Flower's metrics: they are for Flower's dashboards. */
export function celeryMetrics(): DocumentedMetric[] {
  return rowsOf("docs/prometheus.md").filter(({ name }) => !name.startsWith("flower_"));
}

/** The tables of docs/metrics.md. */
export function ownMetrics(): DocumentedMetric[] {
  return rowsOf("docs/metrics.md").map((metric) => ({ ...metric, name: PREFIX + metric.name }));
}

/** The series of metrics, with the labels of each: a histogram has three kinds. */
export function seriesOf(metrics: readonly DocumentedMetric[]): Map<string, readonly string[]> {
  return new Map(
    metrics.flatMap(({ name, type, labels }) =>
      type === "histogram"
        ? ([
            [`${name}_bucket`, [...labels, "le"]],
            [`${name}_sum`, labels],
            [`${name}_count`, labels],
          ] as const)
        : [[name, labels] as const],
    ),
  );
}

interface Relabelling {
  readonly source_labels: readonly string[];
  readonly regex: string;
  readonly target_label: string;
  readonly replacement: string;
}

/** The `metric_relabel_configs` with which docs/prometheus.md scrapes the processors. */
export function documentedRelabelling(): readonly Relabelling[] {
  const [, yaml = ""] = /^```yaml\n(scrape_configs:[^`]*)```/m.exec(readText("docs/prometheus.md")) ?? [];
  const { scrape_configs: scrapes } = parse(yaml) as { scrape_configs: { metric_relabel_configs: Relabelling[] }[] };
  return scrapes.flatMap(({ metric_relabel_configs: rules }) => rules);
}

interface DatadogMetric {
  readonly type: string;
  readonly tags: readonly string[];
}

/** The metrics that Datadog gets, by name. */
export function datadogMetrics(): Map<string, DatadogMetric> {
  const rows = readText("apps/datadog-processor/README.md").matchAll(/^\| `(celery\.[\w.]+)` +\| (\w+) +\|[^|]*\| (.*?) +\|/gm);
  // `basis` (`sent`, `received`): what is in parentheses are values.
  return new Map(
    [...rows].map(([, name = "", type = "", tags = ""]) => [name, { type, tags: wordsIn(tags.replaceAll(/\([^)]*\)/g, "")) }] as const),
  );
}

function rowsOf(page: string): DocumentedMetric[] {
  return [...readText(page).matchAll(/^\| `(\w+)` +\| (counter|gauge|histogram) +\| (.*?) +\|/gm)].map(
    ([, name = "", type = "", labels = ""]) => ({ name, type, labels: wordsIn(labels) }),
  );
}

function wordsIn(cell: string): string[] {
  return [...cell.matchAll(/`(\w+)`/g)].map(([, word = ""]) => word);
}
