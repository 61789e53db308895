/** A UDP port that takes what would go to a Datadog agent, and counts it. */
import { createSocket } from "node:dgram";
import { parseStatsdLine } from "./statsd-line.ts";

/** What has arrived so far. */
export interface StatsdSink {
  readonly port: number;
  readonly datagrams: number;
  /** Values, of which a line may pack several. */
  readonly samples: number;
  /** Lines that are no DogStatsD. */
  readonly malformed: number;
  /** The last few lines, newest last. */
  readonly recentLines: readonly string[];
  /** The sum of a counter's values, by the value of its tag `task_name`. */
  countsByTaskName(counter: string): ReadonlyMap<string, number>;
  close(): Promise<void>;
}

const RECENT_LINES = 4;
/** What the kernel keeps for us while PGlite, which shares our thread, is busy. It grants what it allows. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** Listens on a free port of 127.0.0.1. */
export async function openStatsdSink(): Promise<StatsdSink> {
  const socket = createSocket("udp4");
  const sums = new Map<string, Map<string, number>>();
  const recentLines: string[] = [];
  const totals = { datagrams: 0, samples: 0, malformed: 0 };

  const take = (text: string): void => {
    const line = parseStatsdLine(text);
    if (line === undefined) {
      totals.malformed += 1;
      return;
    }
    totals.samples += line.values.length;
    recentLines.push(text);
    if (recentLines.length > RECENT_LINES) recentLines.shift();
    if (line.type !== "c") return;
    const byTaskName = sums.get(line.name) ?? new Map<string, number>();
    const taskName = line.tags.get("task_name") ?? "";
    byTaskName.set(
      taskName,
      line.values.reduce((sum, value) => sum + value, byTaskName.get(taskName) ?? 0),
    );
    sums.set(line.name, byTaskName);
  };

  socket.on("message", (datagram) => {
    totals.datagrams += 1;
    for (const text of datagram.toString("utf8").split("\n")) if (text !== "") take(text);
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", resolve);
  });
  socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  return {
    port: socket.address().port,
    get datagrams() {
      return totals.datagrams;
    },
    get samples() {
      return totals.samples;
    },
    get malformed() {
      return totals.malformed;
    },
    recentLines,
    countsByTaskName: (counter) => sums.get(counter) ?? new Map<string, number>(),
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}
