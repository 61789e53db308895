/**
 * Forgets label sets that are not used any more: first their labels, so that nobody shows them, and their counts, with when these began, the next time. Also forgets messages that
 * wait, or are in workers' memory, for longer than their tasks are remembered: their queue was emptied, or no worker sends events.
 */
import { Repeat, type Logger } from "@celery-metrics-exporter/runtime";
import type { TaskCounts } from "@celery-metrics-exporter/task-store";
import { readGauge } from "./fields.ts";
import type { LabelRegistry } from "./label-registry.ts";

export interface ExpiryOptions {
  readonly counts: TaskCounts;
  readonly labels: LabelRegistry;
  readonly unusedSeconds: number;
  /** How long a task is remembered after its message was due. */
  readonly taskExpirySeconds: number;
  /** Only one process does it. */
  readonly isActive: () => boolean;
  readonly logger: Logger;
  readonly everyMs?: number;
}

/** Longer than a process remembers that a label set is registered. */
const EVERY_MS = 600_000;

/** A task's expiry is not exact. */
const MARGIN = 1.5;

export class Expiry {
  readonly #options: ExpiryOptions;
  #turns: Repeat | undefined;
  /** Sets without labels, the last time. */
  #orphans: ReadonlySet<string> = new Set();

  constructor(options: ExpiryOptions) {
    this.#options = options;
  }

  start(): void {
    const { everyMs = EVERY_MS, logger } = this.#options;
    const onError = (err: Error): void => logger.debug({ err }, "cannot forget unused label sets for now");
    this.#turns = new Repeat(() => this.turn(), { everyMs, onError });
  }

  /** Safe without `start`. */
  async stop(): Promise<void> {
    await this.#turns?.stop();
  }

  /** @throws {UnavailableError} if Redis is unavailable. */
  async turn(): Promise<void> {
    const { counts, labels, unusedSeconds, taskExpirySeconds, isActive } = this.#options;
    if (!isActive()) return;
    await labels.expire(unusedSeconds);
    const known = await labels.all();
    const orphans = new Set<string>();
    const dropped = new Set<string>();
    const oldest = Date.now() / 1_000 - taskExpirySeconds * MARGIN;
    await counts.drop((field) => {
      const gauge = readGauge(field);
      if (gauge !== undefined && gauge.since < oldest) return true;
      const id = field.slice(0, field.indexOf("."));
      if (known.has(id)) return false;
      orphans.add(id);
      if (!this.#orphans.has(id)) return false;
      dropped.add(id);
      return true;
    });
    this.#orphans = orphans;
    await labels.forgetCreated((id) => orphans.has(id) && !dropped.has(id));
  }
}
