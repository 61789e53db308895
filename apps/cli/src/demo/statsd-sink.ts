/** A UDP port that takes what would go to a Datadog agent, and counts it. */
import { createSocket } from "node:dgram";
import { parseStatsdLine } from "./statsd-line.ts";

/** The sum of a counter's values with these tags; a tag that is missing is empty. */
interface CounterSum {
  readonly taskName: string;
  readonly queue: string;
  readonly sum: number;
}

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
  /** A counter's values, by the values of its tags `task_name` and `queue`. */
  sums(counter: string): readonly CounterSum[];
  close(): Promise<void>;
}

const RECENT_LINES = 4;
/** What the kernel keeps for us while PGlite, which shares our thread, is busy. It grants what it allows. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** Listens on a free port of 127.0.0.1. */
export async function openStatsdSink(): Promise<StatsdSink> {
  const socket = createSocket("udp4");
  const sums = new Map<string, Map<string, CounterSum>>();
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
    const byTags = sums.get(line.name) ?? new Map<string, CounterSum>();
    const [taskName, queue] = [line.tags.get("task_name") ?? "", line.tags.get("queue") ?? ""];
    const key = `${taskName}\n${queue}`;
    const sum = line.values.reduce((total, value) => total + value, byTags.get(key)?.sum ?? 0);
    byTags.set(key, { taskName, queue, sum });
    sums.set(line.name, byTags);
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
    sums: (counter) => [...(sums.get(counter)?.values() ?? [])],
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}
