/** What a scrape shows: everything in the active process, and only that it is on standby in the others. So a sum over all targets counts nothing twice. */
import { type Logger, UnavailableError } from "@celery-metrics-exporter/runtime";
import { CountTable, type KnownWorkers, type Observed, type ShardCounts } from "@celery-metrics-exporter/task-store";
import { FlowerFamilies } from "./flower-families.ts";
import { type Snapshot, Snapshots } from "./snapshots.ts";
import { type CountsSnapshot, type TaskFamiliesOptions, oldestWaiting, taskFamilies } from "./task-families.ts";
import type { Family } from "./text.ts";
import { type WatchedFamiliesOptions, watchedFamilies } from "./watched-families.ts";

export interface ExpositionOptions extends TaskFamiliesOptions, WatchedFamiliesOptions {
  /** Whether this process shows the series. */
  readonly isActive: () => boolean;
  /** Since when without a gap, monotonic, in milliseconds. What was read before may be older than what another process has shown since. */
  readonly activeSince: () => number;
  /** Whether it showed them until Redis stopped answering, and it is not known whether another process does by now. */
  readonly isUncertain: () => boolean;
  /** Reads everything from Redis, at one time. */
  readonly read: () => Promise<Read>;
  readonly logger: Logger;
  /** See `Snapshots`. */
  readonly staleMs?: number;
}

/** What Redis replied at one time. */
export interface Read extends Omit<CountsSnapshot, "counts">, Observed, KnownWorkers {
  readonly shards: readonly ShardCounts[];
  /** Changes when Redis has lost everything. */
  readonly epoch: string;
}

type Shown = CountsSnapshot & Observed & KnownWorkers;

export class Exposition {
  readonly #options: ExpositionOptions;
  readonly #snapshots: Snapshots<Shown>;
  readonly #flower: FlowerFamilies;
  #epoch: string | undefined;
  #table = new CountTable();

  constructor(options: ExpositionOptions) {
    this.#options = options;
    this.#flower = new FlowerFamilies(options);
    this.#snapshots = new Snapshots({
      notBefore: options.activeSince,
      read: async () => this.#toShown(await options.read()),
      ...(options.staleMs !== undefined && { staleMs: options.staleMs }),
    });
  }

  /** @throws {UnavailableError} if the series cannot be shown completely. */
  readonly families = async (): Promise<readonly Family[]> => {
    const { prefix } = this.#options;
    const snapshot = await this.#snapshot();
    if (snapshot === undefined) return [ownGauge(`${prefix}exporter_active`, ACTIVE_HELP, 0)];
    const { content, ageMs } = snapshot;
    const now = Date.now() / 1_000;
    return [
      ...taskFamilies(content, this.#options),
      ...watchedFamilies({ ...content, waitingSince: oldestWaiting(content) }, this.#options, now),
      ownGauge(`${prefix}exporter_active`, ACTIVE_HELP, 1),
      ...(content.listenedUntil === undefined
        ? []
        : [ownGauge(`${prefix}exporter_listened_timestamp_seconds`, LISTENED_HELP, content.listenedUntil)]),
      ownGauge(`${prefix}exporter_snapshot_age_seconds`, "Age of what is shown. Over 1 s only if Redis does not answer.", ageMs / 1_000),
    ];
  };

  /**
   * Those of Flower.
   *
   * @throws {UnavailableError} if the series cannot be shown completely.
   */
  readonly flowerFamilies = async (): Promise<readonly Family[]> => {
    const snapshot = await this.#snapshot();
    return snapshot === undefined ? [] : this.#flower.families(snapshot.content, Date.now() / 1_000);
  };

  /** Undefined on standby. */
  async #snapshot(): Promise<Snapshot<Shown> | undefined> {
    const { isActive, isUncertain } = this.#options;
    if (isActive()) {
      const snapshot = await this.#snapshots.get();
      // Redis may have answered late, and another process may show the series by now.
      if (isActive()) return snapshot;
    }
    // If Redis answers another process, that one shows newer values. In one and the same series, Prometheus would take older ones in between for resets.
    if (isUncertain()) throw new UnavailableError("Redis does not answer, and another process may show the series by now");
    this.#snapshots.clear();
    this.#table = new CountTable();
    this.#flower.clear();
    return undefined;
  }

  #toShown({ shards, epoch, ...read }: Read): Shown {
    if (this.#epoch !== undefined && this.#epoch !== epoch) {
      this.#options.logger.warn("Redis has lost the counts: they start again at 0");
      this.#table = new CountTable();
    }
    this.#epoch = epoch;
    return { ...read, counts: this.#table.read(shards, (set) => read.labels.has(set)) };
  }
}

const LISTENED_HELP =
  "Until when the receivers of every broker are known to have listened. While those of one do not, it is not known whether a silent worker is up.";
const ACTIVE_HELP = "1 if this process shows the series, 0 if it is on standby.";

function ownGauge(name: string, help: string, value: number): Family {
  return { name, type: "gauge", help, samples: [{ suffix: "", labels: {}, value }] };
}
