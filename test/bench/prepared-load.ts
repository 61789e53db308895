/** Prepares frames before the clock starts: creating an event takes longer than publishing it, and would be measured with the servers. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom, toFrames, toSingleFrames, type Frame, type Publisher, type WireEvent } from "@celery-metrics-exporter/testkit";
import { syntheticTask } from "../load/synthetic-task.ts";
import { PROBE } from "./agent.ts";
import { Expected } from "./expected.ts";

/** `multi`: workers' events in lists of up to 24 and clients' events single, as from a busy Celery. `single`: each event single. */
export type Framing = "multi" | "single";

const FRAMERS = { multi: toFrames, single: toSingleFrames } as const;
const TICK_MS = 20;
const MICROSECONDS_PER_MS = 1_000;
const EVENTS_PER_TASK = 4;
const TASKS_PER_PUBLISH = 250;
const PROBES_PER_SECOND = 10;

export interface PreparedBurst {
  readonly expected: Expected;
  readonly frames: readonly (readonly Frame[])[];
}

export interface BurstOptions {
  /** How many names tasks have. Default: a few. */
  readonly names?: number;
  /** How many hosts have workers. Default: a few. */
  readonly hosts?: number;
  /** Other seeds make other tasks. */
  readonly seed?: number;
}

/** At least this many events, published as fast as the broker accepts them. */
export function prepareBurst(events: number, framing: Framing, { names, hosts, seed = events }: BurstOptions = {}): PreparedBurst {
  const random = seededRandom(seed);
  const expected = new Expected();
  const frames: Frame[][] = [];
  while (expected.events < events) {
    const lives: WireEvent[] = [];
    for (let task = 0; task < TASKS_PER_PUBLISH; task += 1) {
      const life = syntheticTask(randomUUID(), Date.now() * MICROSECONDS_PER_MS, random);
      expected.add(life);
      if (names !== undefined) rename(life.events, `shop.task-${Math.floor(random() * names)}`);
      if (hosts !== undefined) move(life.events, `w1@host-${Math.floor(random() * hosts)}`);
      lives.push(...life.events);
    }
    frames.push(FRAMERS[framing](lives.sort((one, other) => one.timestamp - other.timestamp)));
  }
  return { expected, frames };
}

/** The first events of this many tasks, so that all of them are still in flight. */
export function prepareOpenTasks(tasks: number): PreparedBurst["frames"] {
  const random = seededRandom(tasks);
  return Array.from({ length: Math.ceil(tasks / TASKS_PER_PUBLISH) }, () => {
    const firsts = Array.from({ length: TASKS_PER_PUBLISH }, () => {
      return syntheticTask(randomUUID(), Date.now() * MICROSECONDS_PER_MS, random).events.slice(0, 1);
    });
    return toFrames(firsts.flat());
  });
}

/** Resolves when the broker has all of them. */
export async function publishBurst(publisher: Publisher, frames: PreparedBurst["frames"]): Promise<void> {
  for (const some of frames) await publisher.publish(some);
  await publisher.confirmed();
}

export interface PreparedStream {
  readonly expected: Expected;
  /** Unix time in ms of the first event. */
  readonly startsAt: number;
  /** The frames of each 20 ms. */
  readonly ticks: readonly (readonly Frame[])[];
  /** Unix time in ms of the last event of each probe, by the task's name. */
  readonly probes: ReadonlyMap<string, number>;
}

/** A steady stream that begins in a moment: each event has the time at which it is due, so that a late publisher counts as lag. */
export function prepareStream(eventsPerSecond: number, seconds: number, framing: Framing): PreparedStream {
  const random = seededRandom(eventsPerSecond);
  const expected = new Expected();
  const probes = new Map<string, number>();
  const tasks = (eventsPerSecond / EVENTS_PER_TASK) * seconds;
  // By far the most expensive part of the preparation.
  const startsAt = Date.now() + 2_000 + tasks / 4;
  const byTick = new Map<number, WireEvent[]>();
  for (let task = 0; task < tasks; task += 1) {
    const due = startsAt + (task / tasks) * seconds * 1_000;
    const life = syntheticTask(randomUUID(), due * MICROSECONDS_PER_MS, random);
    expected.add(life);
    if (task % Math.ceil(tasks / seconds / PROBES_PER_SECOND) === 0) probes.set(...asProbe(life.events, probes.size));
    for (const event of life.events) {
      const tick = Math.floor((event.timestamp * 1_000 - startsAt) / TICK_MS);
      const others = byTick.get(tick);
      if (others === undefined) byTick.set(tick, [event]);
      else others.push(event);
    }
  }
  const ticks = Array.from({ length: Math.max(...byTick.keys()) + 1 }, (_, tick) => FRAMERS[framing](byTick.get(tick) ?? []));
  return { expected, startsAt, ticks, probes };
}

/** Publishes each tick when its time is over. When the broker has everything, resolves with the delay of the last tick in ms. */
export async function publishStream(publisher: Publisher, { startsAt, ticks }: PreparedStream): Promise<number> {
  if (Date.now() > startsAt) throw new Error("preparing the stream took longer than planned");
  for (const [tick, frames] of ticks.entries()) {
    const due = startsAt + (tick + 1) * TICK_MS;
    if (Date.now() < due) await sleep(due - Date.now());
    await publisher.publish(frames);
  }
  await publisher.confirmed();
  return Date.now() - (startsAt + ticks.length * TICK_MS);
}

/** Gives the task a unique name. */
function asProbe(events: readonly WireEvent[], number: number): [name: string, endsAt: number] {
  const name = `${PROBE}${number}`;
  rename(events, name);
  return [name, Math.max(...events.map(({ timestamp }) => timestamp)) * 1_000];
}

function rename(events: readonly WireEvent[], name: string): void {
  for (const event of events) if ("name" in event) Object.assign(event, { name });
}

/** Has the task done by another worker. */
function move(events: readonly WireEvent[], hostname: string): void {
  for (const event of events) if (event.type !== "task-sent") Object.assign(event, { hostname });
}
