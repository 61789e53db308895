/** The addresses to open once everything is running. */
import { isEmbedded } from "@celery-metrics-exporter/db";
import { redactUrl } from "@celery-metrics-exporter/runtime";
import { exporters } from "../exporters.ts";
import type { Terminal } from "../terminal.ts";

export interface Addresses {
  readonly brokerUrl: string;
  readonly redisUrl: string;
  readonly queuePrefix: string;
  /** Undefined without the postgres exporter. */
  readonly databaseUrl: string | undefined;
  /** Where metrics go, and whether an agent answers there. Undefined without the datadog exporter. */
  readonly datadog: { readonly address: string; readonly answers: boolean } | undefined;
  /** What Prometheus scrapes. Undefined without the prometheus exporter. */
  readonly scrapedUrl: string | undefined;
  /** The other exporters that run. */
  readonly others: readonly { readonly name: string; readonly sink: string | undefined }[];
  /** Undefined without the dashboard. */
  readonly dashboardUrl: string | undefined;
  /** The HTTP API. Undefined if it does not run. */
  readonly webUrl: string | undefined;
  readonly healthUrl: string;
}

/** The command that shows the rows. */
const QUERY_COMMAND = "pnpm celery-metrics-exporter query";

const IN_MEMORY = "pglite:memory";

const LABEL_WIDTH = 11;

export function renderAddresses(addresses: Addresses, { bold, dim }: Pick<Terminal, "bold" | "dim">): string {
  const { brokerUrl, redisUrl, queuePrefix, databaseUrl, datadog, scrapedUrl, others, dashboardUrl, webUrl, healthUrl } = addresses;
  const row = (label: string, value: string, remark = ""): string =>
    `  ${dim(label.padEnd(LABEL_WIDTH - 1))} ${value}${remark === "" ? "" : `  ${dim(remark)}`}`;
  const rowsOf = (url: string): string[] =>
    url === IN_MEMORY
      ? [row("Rows", "in memory", "lost when it stops; no other process can read them")]
      : [row("Rows", `in ${place(url)}`), row("", QUERY_COMMAND, "shows the latest")];
  return [
    "",
    bold("celery-metrics-exporter is running"),
    "",
    row("Events", `from ${redactUrl(brokerUrl)}`),
    row("Queues", `in ${redactUrl(redisUrl)}`, `keys ${queuePrefix}:*`),
    ...(databaseUrl === undefined ? [] : rowsOf(databaseUrl)),
    datadog === undefined
      ? row("Datadog", "off", `to turn it on, set DD_AGENT_HOST=<host> or EXPORTERS=${[...exporters.keys()].join(",")}`)
      : row("Datadog", `to ${datadog.address}`, datadog.answers ? "" : "no agent answers there yet: metrics wait in the queue"),
    ...(scrapedUrl === undefined ? [] : [row("Prometheus", scrapedUrl, "to scrape")]),
    ...others.map(({ name, sink }) => row(name, sink === undefined ? "on" : `to ${sink}`)),
    ...(dashboardUrl === undefined ? [] : [row("Dashboard", dashboardUrl, "the exporter queues")]),
    ...(webUrl === undefined ? [] : [row("API", `${webUrl}/api/v1/tasks`, "the tasks, as JSON")]),
    row("Health", `${healthUrl}/readyz`, `${healthUrl}/metrics`),
    "",
    dim("  Ctrl-C stops it."),
    "",
    "",
  ].join("\n");
}

function place(databaseUrl: string): string {
  return isEmbedded(databaseUrl) ? `an embedded PostgreSQL, ${databaseUrl.slice("pglite:".length)}` : redactUrl(databaseUrl);
}
