/** Sorts out events from the future, and decides whether their senders' clocks are wrong or our own is. */
import { isFuture, type CeleryEvent } from "@celery-metrics-exporter/events";
import { OutageLog, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import { ClockCensus, type Sender } from "./clock-census.ts";

export interface SenderClocksOptions {
  /** Unix time in seconds. */
  readonly now: () => number;
  /** Always up: with a clock that is wrong the receiver works as well as it can. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

/** The events of one message. */
export interface Sorted {
  readonly inTime: readonly CeleryEvent[];
  /** From more than a day ahead. */
  readonly future: readonly CeleryEvent[];
}

const NONE: readonly CeleryEvent[] = [];
const PROBLEM = "nearly all events come from more than a day ahead of this host's clock";
const ADVICE =
  "set the clock of the receiver's host (`timedatectl` shows whether NTP does); if it is right, those of the hosts that run workers and clients";

export class SenderClocks {
  readonly #options: SenderClocksOptions;
  readonly #census: ClockCensus;
  readonly #log: OutageLog;
  /** Events taken from the future in this window of the census. */
  #taken = 0;

  constructor(options: SenderClocksOptions) {
    this.#options = options;
    this.#census = new ClockCensus(options.now());
    const [began, ended] = [`${PROBLEM}: they are taken, as that clock must be wrong`, "events come from the present again"];
    this.#log = new OutageLog({ logger: options.logger, began, ended });
    options.health.up();
  }

  /** Called for every message: a comparison for each event, and one look-up for each sender. */
  sort(events: readonly CeleryEvent[]): Sorted {
    const now = this.#options.now();
    if (this.#census.turn(now)) this.#endWindow();
    let future: CeleryEvent[] | undefined;
    let hostname: string | undefined;
    let sender: Sender | undefined;
    for (const event of events) {
      if (sender === undefined || event.hostname !== hostname) {
        hostname = event.hostname;
        sender = this.#census.sender(hostname);
      }
      const isAhead = isFuture(event, now);
      sender.count(isAhead);
      if (isAhead) (future ??= []).push(event);
    }
    if (future === undefined) return { inTime: events, future: NONE };
    return { inTime: events.filter((event) => !isFuture(event, now)), future };
  }

  /**
   * Whether these events are to be taken, since nearly all that come are from the future, so that it must be our own clock that is wrong. Asked
   * of a whole batch and not of each message, so that more is known. Warns.
   *
   * @param future what `sort` gave.
   */
  takes(future: readonly CeleryEvent[]): boolean {
    if (!this.#census.nearlyAllAhead) return false;
    this.#taken += future.length;
    this.#warn(future);
    return true;
  }

  #warn(future: readonly CeleryEvent[]): void {
    const { health, now } = this.#options;
    health.up(`up, but ${PROBLEM}: ${ADVICE}`);
    const [{ hostname, timestamp } = { hostname: "", timestamp: now() }] = future;
    this.#log.failed({ hostname, hoursAhead: Math.round((timestamp - now()) / 3_600), advice: ADVICE });
  }

  #endWindow(): void {
    if (this.#taken === 0 && this.#log.isOn) {
      this.#options.health.up();
      this.#log.served();
    }
    this.#taken = 0;
  }
}
