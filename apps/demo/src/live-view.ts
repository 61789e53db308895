/** The demo's live summary: redrawn in place on a terminal, otherwise a line at intervals. */
import { pause } from "@celery-metrics-exporter/runtime";
import { clip, type Terminal } from "cli";
import type { Observer, Snapshot } from "./observer.ts";

const REFRESH_MS = 1_000;
/** Interval of the lines if the output is not a terminal. */
const LINE_EVERY_SECONDS = 3;
const LABEL_WIDTH = 11;

export class LiveView {
  readonly #terminal: Terminal;
  readonly #observer: Pick<Observer, "snapshot">;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #drawnLines = 0;
  #lastLineAt = -Infinity;

  constructor(terminal: Terminal, observer: Pick<Observer, "snapshot">) {
    this.#terminal = terminal;
    this.#observer = observer;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when nothing more will be written. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const snapshot = await this.#observer.snapshot();
      if (snapshot !== undefined && !signal.aborted) this.#show(snapshot);
      await pause(REFRESH_MS, signal);
    }
  }

  #show(snapshot: Snapshot): void {
    if (this.#terminal.isInteractive) this.#redraw(renderSummary(snapshot, this.#terminal));
    else if (snapshot.elapsedSeconds - this.#lastLineAt >= LINE_EVERY_SECONDS) {
      const lines = [...(this.#lastLineAt < 0 ? renderAddresses(snapshot) : []), renderLine(snapshot), ...renderDatagrams(snapshot)];
      this.#lastLineAt = snapshot.elapsedSeconds;
      this.#terminal.write(lines.map((line) => `${line}\n`).join(""));
    }
  }

  #redraw(lines: readonly string[]): void {
    const up = this.#drawnLines > 0 ? `\u001b[${this.#drawnLines}A` : "";
    this.#terminal.write(`${up}${lines.map((line) => `\u001b[2K${line}\n`).join("")}\u001b[J`);
    this.#drawnLines = lines.length;
  }
}

/** The summary as lines, none wider than the terminal. */
export function renderSummary(snapshot: Snapshot, terminal: Pick<Terminal, "columns" | "bold" | "dim">): string[] {
  const { bold, dim, columns } = terminal;
  const row = (label: string, value: string): string => `  ${dim(label.padEnd(LABEL_WIDTH))}${clip(value, columns - LABEL_WIDTH - 3)}`;
  const lines = [bold(clip(`celery-metrics-exporter demo  ${progress(snapshot)}`, columns - 1)), ""];
  lines.push(row("Celery", `${count(snapshot.tasksSent)} tasks sent ${snapshot.workload}`));
  lines.push(row("Receiver", `${count(snapshot.eventsReceived)} events, ${count(snapshot.eventsPerSecond)}/s${lag(snapshot)}`));
  if (snapshot.states !== undefined) {
    lines.push(row("Postgres", `${rows(snapshot.states)} in ${snapshot.database}`));
    lines.push(row("", states(snapshot.states)));
  }
  if (snapshot.metricsGoTo !== undefined) {
    const sent =
      snapshot.statsd === undefined ? "" : `${count(snapshot.statsd.samples)} values in ${count(snapshot.statsd.datagrams)} datagrams `;
    lines.push(row("Datadog", `${sent}to ${snapshot.metricsGoTo}`));
  }
  for (const line of snapshot.statsd?.recentLines ?? []) lines.push(row("", line));
  if (snapshot.scrapedUrl !== undefined) lines.push(row("Prometheus", snapshot.scrapedUrl));
  if (snapshot.webUrl !== undefined) lines.push(row("Web page", snapshot.webUrl));
  if (snapshot.dashboardUrl !== undefined) lines.push(row("Dashboard", snapshot.dashboardUrl));
  lines.push(row("Health", `${snapshot.healthUrl}/readyz   ${snapshot.healthUrl}/metrics`), row("Log", snapshot.logFile));
  const isDraining = snapshot.phase === "draining";
  const hint = isDraining ? "It stops once everything is processed. Press Ctrl-C to stop now." : "Press Ctrl-C to stop and compare.";
  if (isDraining || snapshot.totalSeconds === undefined) lines.push("", dim(clip(`  ${hint}`, columns - 1)));
  return lines;
}

/** The summary in one line, for logs and pipes. */
export function renderLine(snapshot: Snapshot): string {
  const parts = [
    progress(snapshot),
    `${count(snapshot.tasksSent)} tasks sent`,
    `${count(snapshot.eventsReceived)} events received${lag(snapshot)}`,
  ];
  if (snapshot.statsd !== undefined) parts.push(`${count(snapshot.statsd.samples)} metric values`);
  if (snapshot.states !== undefined) parts.push(`${rows(snapshot.states)} (${states(snapshot.states)})`);
  // The addresses of the beginning have scrolled away.
  if (snapshot.webUrl !== undefined) parts.push(`see ${snapshot.webUrl}`);
  return parts.join(", ");
}

/** The addresses to open, for logs and pipes. */
function renderAddresses({ webUrl, scrapedUrl, dashboardUrl, healthUrl, logFile }: Snapshot): string[] {
  return [
    ...(webUrl === undefined ? [] : [`Web page: ${webUrl}`]),
    ...(scrapedUrl === undefined ? [] : [`Prometheus: ${scrapedUrl}`]),
    ...(dashboardUrl === undefined ? [] : [`Dashboard: ${dashboardUrl}`]),
    `Health: ${healthUrl}/readyz`,
    `Log: ${logFile}`,
  ];
}

/** The last lines that the built-in sink received. */
function renderDatagrams({ statsd }: Snapshot): string[] {
  return (statsd?.recentLines ?? []).map((line) => `    ${line}`);
}

function progress({ elapsedSeconds, totalSeconds, phase }: Snapshot): string {
  const elapsed = `${Math.floor(elapsedSeconds)} s`;
  if (phase === "draining") return `${elapsed}, draining`;
  return totalSeconds === undefined ? elapsed : `${elapsed} of ${totalSeconds} s`;
}

function lag({ lagSeconds }: Snapshot): string {
  return lagSeconds === undefined ? "" : `, lag ${lagSeconds.toFixed(2)} s`;
}

function rows(byState: ReadonlyMap<string, number>): string {
  return `${count([...byState.values()].reduce((sum, tasks) => sum + tasks, 0))} rows`;
}

function states(byState: ReadonlyMap<string, number>): string {
  return [...byState].map(([state, tasks]) => `${state} ${count(tasks)}`).join("  ") || "none yet";
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
