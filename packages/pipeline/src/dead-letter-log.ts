/** Logs dead letters by source and reason: how many, an example, and what to do. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import { adviceFor } from "./dead-letter-advice.ts";
import { cut } from "./dead-letter-size.ts";
import type { DeadLetter } from "./letter.ts";

/** Bad events come in bursts: each source and reason has at most one line per interval. */
const INTERVAL_MS = 30_000;
const MAX_DETAIL_CHARACTERS = 500;

interface Group {
  /** Letters since the last line. */
  count: number;
  /** Of the first of them. */
  example: Pick<DeadLetter, "source" | "reason" | "detail">;
  timer: NodeJS.Timeout | undefined;
}

export class DeadLetterLog {
  readonly #logger: Logger;
  readonly #intervalMs: number;
  /** Sources and reasons are words of ours, so there are few. */
  readonly #groups = new Map<string, Group>();

  constructor(logger: Logger, intervalMs = INTERVAL_MS) {
    this.#logger = logger;
    this.#intervalMs = intervalMs;
  }

  add(letters: readonly DeadLetter[]): void {
    for (const { source, reason, detail } of letters) {
      const key = JSON.stringify([source, reason]);
      const example = { source, reason, detail };
      const group = this.#groups.get(key) ?? { count: 0, example, timer: undefined };
      this.#groups.set(key, group);
      if (group.count === 0) group.example = { ...example, detail: cut(detail, MAX_DETAIL_CHARACTERS) };
      group.count += 1;
    }
    for (const group of this.#groups.values()) if (group.timer === undefined) this.#write(group);
  }

  /** Logs what has not been logged yet. */
  close(): void {
    for (const group of this.#groups.values()) {
      clearTimeout(group.timer);
      group.timer = undefined;
      this.#write(group);
      clearTimeout(group.timer);
    }
  }

  #write(group: Group): void {
    group.timer = undefined;
    if (group.count === 0) return;
    const { source, reason, detail } = group.example;
    const fields = { source, reason, count: group.count, detail, advice: adviceFor(group.example) };
    this.#logger.warn(fields, "put into the dead-letter queue");
    group.count = 0;
    group.timer = setTimeout(() => this.#write(group), this.#intervalMs).unref();
  }
}
