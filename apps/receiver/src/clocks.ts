/** Checks events against the clock: separates those from the future, and decides whether the senders' clocks or our own clock is wrong. */
import { type CeleryEvent, isFuture, ownText, MAX_AHEAD_SECONDS } from "@celery-metrics-exporter/celery";
import { type ComponentHealth, type Logger, Outage } from "@celery-metrics-exporter/runtime";
import type { RedisClock } from "./redis-clock.ts";

export interface SenderClocksOptions {
  /** Unix time in seconds. */
  readonly now: () => number;
  /** Always up: even with a wrong clock the receiver keeps working as well as it can. */
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
const PROBLEM = "nearly all events come from more than a day ahead of this machine's clock";
const ADVICE =
  "correct the clock of the receiver's machine (`timedatectl` shows whether NTP is running); if it is right, correct the clocks of the machines that run workers and clients";

export class SenderClocks {
  readonly #options: SenderClocksOptions;
  readonly #census: ClockCensus;
  readonly #log: Outage;
  /** Events from the future that were accepted in this window of the census. */
  #taken = 0;

  constructor(options: SenderClocksOptions) {
    this.#options = options;
    this.#census = new ClockCensus(options.now());
    const [began, ended] = [`${PROBLEM}: accepting them, because that clock must be wrong`, "events come from the present again"];
    this.#log = new Outage({ logger: options.logger, began, ended });
    options.health.up();
  }

  /** Called for every message. Costs a comparison per event and one look-up per sender. */
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
   * Whether to accept these events: if nearly all events are from the future, our own clock must be wrong. Then it warns. Called once per batch
   * and not per message, because more is known by then.
   *
   * @param future as returned by `sort`.
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

// Compares senders' clocks with ours, to distinguish a few senders that are ahead from an own clock that is behind. Pure.

const NEARLY_ALL = 0.9;
/** Minimum number of events from the future for a decision: a single one says more about its sender than about us. */
const ENOUGH_EVENTS = 10;
/** Approximate number of recent events by which a sender is judged. */
const RECENT_EVENTS = 32;
/** Silence after which a sender is forgotten, at the latest after twice as long. Workers send a heartbeat every 2 s. */
const WINDOW_SECONDS = 600;
/** Bounds, because senders may invent hostnames. All further ones count as one. */
const MAX_MACHINES = 1_000;
const MAX_SENDERS_OF_MACHINE = 4;
const MAX_FOUND = 1_000;
const OTHERS = "";

/** Entries used in this window or the previous one. */
class Recent<T> {
  readonly #max: number;
  readonly #create: () => T;
  #current = new Map<string, T>();
  #earlier = new Map<string, T>();

  constructor(max: number, create: () => T) {
    this.#max = max;
    this.#create = create;
  }

  get(name: string): T {
    return this.#current.get(name) ?? this.#renew(this.#current.size < this.#max ? name : OTHERS);
  }

  values(): T[] {
    return [...this.#current.values(), ...this.#earlier.values()];
  }

  endWindow(): void {
    this.#earlier = this.#current;
    this.#current = new Map();
  }

  #renew(name: string): T {
    const item = this.#current.get(name) ?? this.#earlier.get(name) ?? this.#create();
    this.#earlier.delete(name);
    this.#current.set(ownText(name), item);
    return item;
  }
}

/** Counts the recent events of one sender. */
export class Sender {
  #ahead = 0;
  #inTime = 0;

  count(isAhead: boolean): void {
    if (isAhead) this.#ahead += 1;
    else this.#inTime += 1;
    if (this.#ahead + this.#inTime < RECENT_EVENTS) return;
    this.#ahead /= 2;
    this.#inTime /= 2;
  }

  /** The number of its events from the future if nearly all are; else 0. */
  get ahead(): number {
    return this.#ahead >= NEARLY_ALL * (this.#ahead + this.#inTime) ? this.#ahead : 0;
  }
}

/** The senders that share a clock. */
class Machine {
  readonly senders = new Recent(MAX_SENDERS_OF_MACHINE, () => new Sender());

  /** The number of its senders' events from the future if every sender is ahead; else 0. */
  get ahead(): number {
    const each = this.senders.values().map(({ ahead }) => ahead);
    return each.includes(0) ? 0 : each.reduce((sum, ahead) => sum + ahead, 0);
  }
}

/** Counts machines (the part of the hostname after the `@`) instead of events, so that a sender that floods weighs no more than another. */
export class ClockCensus {
  readonly #machines = new Recent(MAX_MACHINES, () => new Machine());
  /** Cache for this window, so that nearly every event needs only one look-up. */
  readonly #found = new Map<string, Sender>();
  #windowBegan: number;

  /** @param now Unix time in seconds. */
  constructor(now: number) {
    this.#windowBegan = now;
  }

  /** Starts a new window when it is due, and forgets silent senders. Also does so after the clock was set. @returns whether a window ended. */
  turn(now: number): boolean {
    if (Math.abs(now - this.#windowBegan) < WINDOW_SECONDS) return false;
    this.#windowBegan = now;
    this.#found.clear();
    this.#machines.endWindow();
    for (const machine of this.#machines.values()) machine.senders.endWindow();
    return true;
  }

  /** The counter for the events of this hostname. */
  sender(hostname: string): Sender {
    return this.#found.get(hostname) ?? this.#find(hostname);
  }

  /** Whether nearly all machines are ahead of us. False if too little is known. */
  get nearlyAllAhead(): boolean {
    const each = this.#machines.values().map(({ ahead }) => ahead);
    const events = each.reduce((sum, ahead) => sum + ahead, 0);
    return events >= ENOUGH_EVENTS && each.filter((ahead) => ahead > 0).length >= NEARLY_ALL * each.length;
  }

  #find(hostname: string): Sender {
    const sender = this.#machines.get(hostname.slice(hostname.lastIndexOf("@") + 1)).senders.get(hostname);
    if (this.#found.size < MAX_FOUND) this.#found.set(ownText(hostname), sender);
    return sender;
  }
}

// The clock against which events are checked: this machine's, or the one of Redis if it is later.

/**
 * A machine that has just started, before NTP has set its clock, may be years behind; this still gives the right time. Warns if this machine is more than a
 * day behind Redis.
 *
 * @returns Unix time in seconds.
 */
export function receiverClock(redis: Pick<RedisClock, "now">, logger: Logger): () => number {
  const behind = redis.now() - own();
  if (behind > MAX_AHEAD_SECONDS) {
    const advice =
      "correct this machine's clock (`timedatectl` shows whether NTP is running); if it is right, correct the clock of Redis' machine";
    logger.warn(
      { hoursBehind: Math.round(behind / 3_600), advice },
      "the clock of this machine is behind the clock of Redis: using the clock of Redis",
    );
  }
  return () => Math.max(own(), redis.now());
}

function own(): number {
  return Date.now() / 1_000;
}
