/** The search of a batch for what is at fault: what has been tried of it, and what is left. */
import type { DeliveryJob } from "./deliver.ts";
import type { Failure, Tries } from "./tries.ts";

const SPREAD = 8;

/** Some items of a batch, in their order. */
export interface Part<T> {
  readonly items: readonly T[];
  /** The refused part that this is a piece of. */
  readonly of: RefusedPart<T> | undefined;
}

export interface RefusedPart<T> extends Part<T> {
  /** How many items of each kind had got through by then. */
  readonly takenBefore: ReadonlyMap<string, number>;
  /** How many of its items have not got through, once all its pieces have been tried. */
  left: number;
}

/** An item that was refused alone. */
export interface Suspect<T> extends RefusedPart<T> {
  readonly item: T;
  readonly kind: string;
}

/** One batch, while it is searched for what is at fault. */
export interface Search<T> {
  readonly job: DeliveryJob;
  readonly beganAt: number;
  /** Whether what gets through now gets through for the first time. */
  readonly isFresh: boolean;
  readonly send: (items: readonly T[], tries: Tries) => Promise<Failure | undefined>;
  /** What is to be tried. The last part is the next: items go in their order, so that each meets in the sink what it would have met there. */
  readonly open: Part<T>[];
  readonly suspects: Suspect<T>[];
  /** Items of kinds that are refused. */
  readonly untried: T[];
  /** Items that were tried alone to learn whether any of their kind gets through. */
  looks: number;
  /** Single items of a kind that were refused in a row. */
  readonly refusals: Map<string, number>;
  firstError: Error | undefined;
  /** Items that are slow or may be, those that were not tried first. */
  readonly slow: T[];
  firstTimeout: Error | undefined;
  limited: boolean;
}

/** Items that were refused alone so far, and those of kinds that are refused. */
export function refusedIn<T>({ suspects, untried }: Search<T>): T[] {
  return [...suspects.map(({ item }) => item), ...untried];
}

export function inParts<T>(items: readonly T[], size: number): (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Every so many of them, again and again: those beside each other are often alike. */
export function spread<T>(parts: readonly T[]): T[] {
  return Array.from({ length: SPREAD }, (_, offset) => parts.filter((__, index) => index % SPREAD === offset)).flat();
}

/** Items of this part, and of those it is a piece of, have not got through. */
export function addLeft<T>(of: RefusedPart<T> | undefined, count: number): void {
  for (let part = of; part !== undefined; part = part.of) part.left += count;
}
