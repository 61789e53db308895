/** When a silent worker is gone: the rule that each store of workers follows, as cases. */
import type { Listened } from "../model/observation.ts";

/** Seconds for which a worker must be silent, in these cases. */
export const LISTENING_LIMIT_SECONDS = 30;
/** How long ago the worker was last heard, in seconds. */
export const LISTENING_HEARD_AGO = 40;

export interface ListeningCase {
  readonly name: string;
  /** In the order in which they are stored. Since and until how many seconds ago, and of which source. */
  readonly reports: readonly (readonly [number, number, string?])[];
  readonly isGone: boolean;
}

export const LISTENING_CASES: readonly ListeningCase[] = [
  { name: "no receiver has reported that it listened", reports: [], isGone: false },
  { name: "one listened all the time", reports: [[100, 0]], isGone: true },
  { name: "it has listened for just long enough", reports: [[39, 9]], isGone: true },
  { name: "it began to listen just long enough ago", reports: [[30, 0]], isGone: true },
  { name: "it has not listened for quite long enough", reports: [[100, 11]], isGone: false },
  { name: "it began to listen later", reports: [[29, 0]], isGone: false },
  { name: "the receiver is down", reports: [[100, 35]], isGone: false },
  {
    name: "it listens again, but not for long enough yet",
    reports: [
      [100, 35],
      [20, 0],
    ],
    isGone: false,
  },
  {
    name: "it has listened for long enough again",
    reports: [
      [100, 35],
      [34, 0],
    ],
    isGone: true,
  },
  {
    name: "another listened meanwhile",
    reports: [
      [100, 35],
      [20, 0],
      [90, 5],
    ],
    isGone: true,
  },
  {
    name: "the other is heard of first",
    reports: [
      [90, 5],
      [20, 0],
      [100, 35],
    ],
    isGone: true,
  },
  {
    name: "neither of two listened for long enough",
    reports: [
      [100, 20],
      [25, 0],
    ],
    isGone: false,
  },
  {
    name: "an old report comes late",
    reports: [
      [100, 0],
      [300, 200],
    ],
    isGone: true,
  },
  { name: "a receiver's clock is ahead", reports: [[100, -600]], isGone: true },
  { name: "a receiver's clock is so far ahead that its report is only of the future", reports: [[-5, -60]], isGone: true },
  { name: "a report is of no time", reports: [[0, 100]], isGone: false },
  {
    name: "it was interrupted for a moment",
    reports: [
      [100, 5],
      [2, 0],
    ],
    isGone: true,
  },
  {
    name: "it was interrupted several times",
    reports: [
      [100, 8],
      [6, 5],
      [3, 0],
    ],
    isGone: true,
  },
  {
    name: "what was long enough comes late",
    reports: [
      [2, 0],
      [100, 5],
      [300, 200],
    ],
    isGone: true,
  },
  {
    name: "the receivers of both brokers listened",
    reports: [
      [100, 5],
      [80, 0, "another"],
    ],
    isGone: true,
  },
  {
    name: "the receiver of another broker is down",
    reports: [
      [100, 0],
      [500, 35, "another"],
    ],
    isGone: false,
  },
  {
    name: "the receiver of another broker has begun",
    reports: [
      [100, 0],
      [20, 0, "another"],
    ],
    isGone: false,
  },
  {
    name: "the receiver of another broker is down for ten minutes",
    reports: [
      [100, 0],
      [900, 601, "another"],
    ],
    isGone: true,
  },
  {
    name: "that is so although its report comes late",
    reports: [
      [900, 601, "another"],
      [100, 0],
    ],
    isGone: true,
  },
  {
    name: "it is not down for quite as long",
    reports: [
      [100, 0],
      [900, 595, "another"],
    ],
    isGone: false,
  },
];

/** The reports of a case, at this time. */
export function reportsOf({ reports }: ListeningCase, now: number): Listened[] {
  return reports.map(([since, until, source = "broker"]) => ({ type: "listened", source, since: now - since, timestamp: now - until }));
}
