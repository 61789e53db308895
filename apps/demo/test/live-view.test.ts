import type { Terminal } from "cli";
import { describe, expect, it, vi } from "vitest";
import { LiveView, renderLine, renderSummary } from "../src/live-view.ts";
import type { Snapshot } from "../src/observer.ts";

const SNAPSHOT: Snapshot = {
  elapsedSeconds: 12.7,
  totalSeconds: 20,
  phase: "running",
  workload: "to a worker of Celery 5.2.6",
  tasksSent: 1_234,
  eventsReceived: 5_678,
  eventsPerSecond: 98.4,
  lagSeconds: 0.042,
  states: new Map([
    ["FAILURE", 12],
    ["SUCCESS", 1_200],
  ]),
  database: "an embedded PostgreSQL, in memory",
  statsd: { samples: 3_000, datagrams: 120, recentLines: [`celery.task.run_time:0.1|d|#task_name:${"x".repeat(200)}`] },
  metricsGoTo: "udp://127.0.0.1:9999, where the demo counts them",
  scrapedUrl: "http://127.0.0.1:9808/metrics",
  dashboardUrl: "http://127.0.0.1:3000/",
  webUrl: "http://127.0.0.1:5555/",
  healthUrl: "http://127.0.0.1:4000",
  logFile: "./.data/demo.log",
};

function terminal(isInteractive: boolean): Terminal & { readonly written: () => string } {
  let written = "";
  const styles = { bold: String, dim: String, green: String, red: String, yellow: String };
  return { isInteractive, columns: 80, ...styles, write: (text) => void (written += text), written: () => written };
}

describe("the summary", () => {
  it("shows everything, in lines that fit the terminal", () => {
    const lines = renderSummary(SNAPSHOT, terminal(true));
    expect(lines.filter((line) => line.length >= 80)).toEqual([]);
    const narrow = renderSummary({ ...SNAPSHOT, phase: "draining" }, { ...terminal(true), columns: 40 });
    expect(narrow.filter((line) => line.length >= 40)).toEqual([]);
    const text = lines.join("\n");
    for (const part of ["12 s of 20 s", "1,234 tasks sent", "5,678 events, 98/s, lag 0.04 s", "1,212 rows", "FAILURE 12  SUCCESS 1,200"])
      expect(text).toContain(part);
    for (const part of [
      "3,000 values in 120 datagrams",
      "http://127.0.0.1:9808/metrics",
      "http://127.0.0.1:3000/",
      "http://127.0.0.1:5555/",
      "http://127.0.0.1:4000/readyz",
      "demo.log",
    ])
      expect(text).toContain(part);
  });

  it("leaves out missing parts", () => {
    const bare = {
      ...SNAPSHOT,
      states: undefined,
      statsd: undefined,
      metricsGoTo: undefined,
      scrapedUrl: undefined,
      dashboardUrl: undefined,
      webUrl: undefined,
      lagSeconds: undefined,
    };
    expect(renderSummary(bare, terminal(true)).join("\n")).not.toMatch(/Postgres|Datadog|Prometheus|Dashboard|Web page|lag/);
    expect(renderLine(bare)).toBe("12 s of 20 s, 1,234 tasks sent, 5,678 events received");
  });

  it("is one line if the output is not a terminal", () => {
    const line =
      "12 s, draining, 1,234 tasks sent, 5,678 events received, lag 0.04 s, 3,000 metric values, 1,212 rows (FAILURE 12  SUCCESS 1,200), see http://127.0.0.1:5555/";
    expect(renderLine({ ...SNAPSHOT, phase: "draining" })).toBe(line);
  });
});

/** The output of the view while it shows the demo, once a second, for this many seconds. */
async function shownFor(seconds: number, isInteractive: boolean): Promise<string> {
  const screen = terminal(isInteractive);
  let elapsedSeconds = 0;
  const view = new LiveView(screen, { snapshot: async () => ({ ...SNAPSHOT, elapsedSeconds: elapsedSeconds++ }) });
  view.start();
  await vi.waitFor(() => expect(elapsedSeconds).toBeGreaterThan(seconds), { interval: 10, timeout: 20_000 });
  await view.stop();
  return screen.written();
}

describe("the live view", () => {
  it("redraws itself on a terminal", { timeout: 15_000 }, async () => {
    const written = await shownFor(1, true);
    const height = renderSummary(SNAPSHOT, terminal(true)).length;
    expect(written).toContain(`\u001b[${height}A`);
    expect(written.startsWith("\u001b[2Kcelery-metrics-exporter demo  0 s of 20 s\n")).toBe(true);
  });

  it("writes plain lines to other outputs, starting with the addresses, and not every second", { timeout: 15_000 }, async () => {
    const written = await shownFor(4, false);
    expect(written).not.toContain("\u001b");
    const datagram = `    ${SNAPSHOT.statsd?.recentLines[0] ?? ""}`;
    expect(written.split("\n").map((line) => line.split(",")[0])).toEqual([
      "Web page: http://127.0.0.1:5555/",
      "Prometheus: http://127.0.0.1:9808/metrics",
      "Dashboard: http://127.0.0.1:3000/",
      "Health: http://127.0.0.1:4000/readyz",
      "Log: ./.data/demo.log",
      "0 s of 20 s",
      datagram,
      "3 s of 20 s",
      datagram,
      "",
    ]);
  });
});
