/** The search for the item at fault in a batch: what has been tried, and what is left. */
import type { DeliveryJob } from "./deliver.ts";
import type { Failure, Tries } from "./tries.ts";

/** Distance between parts that are tried one after the other. */
const SPREAD = 8;

/** Some items of a batch, in order. */
export interface Part<T> {
  readonly items: readonly T[];
  /** The refused part that this is a piece of. */
  readonly of: RefusedPart<T> | undefined;
}

export interface RefusedPart<T> extends Part<T> {
  /** How many items of each kind had got through when it was refused. */
  readonly takenBefore: ReadonlyMap<string, number>;
  /** How many of its items have not got through, once all its pieces have been tried. */
  left: number;
}

/** An item that was refused alone. */
export interface Suspect<T> extends RefusedPart<T> {
  readonly item: T;
  readonly kind: string;
}

/** The search in one batch. */
export interface Search<T> {
  readonly job: DeliveryJob;
  readonly beganAt: number;
  /** Whether items that get through now do so for the first time. */
  readonly isFresh: boolean;
  readonly send: (items: readonly T[], tries: Tries) => Promise<Failure | undefined>;
  /** Parts to try, the next one last. Items keep their order, so that each finds the sink in the state it would find without splitting. */
  readonly open: Part<T>[];
  readonly suspects: Suspect<T>[];
  /** Items that were not tried because their kind is refused. */
  readonly untried: T[];
  /** How many items were tried alone to learn whether any of their kind gets through. */
  looks: number;
  /** By kind, how many single items were refused in a row. */
  readonly refusals: Map<string, number>;
  firstError: Error | undefined;
  /** Items that are or may be slow. Untried ones come first. */
  readonly slow: T[];
  firstTimeout: Error | undefined;
  limited: boolean;
}

/** The items refused alone so far, and those left untried because their kind is refused. */
export function refusedIn<T>({ suspects, untried }: Search<T>): T[] {
  return [...suspects.map(({ item }) => item), ...untried];
}

export function inParts<T>(items: readonly T[], size: number): (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Reorders parts so that neighbors are tried far apart, because they are often alike. */
export function spread<T>(parts: readonly T[]): T[] {
  return Array.from({ length: SPREAD }, (_, offset) => parts.filter((__, index) => index % SPREAD === offset)).flat();
}

/** Counts items that have not got through, for this part and all the parts that contain it. */
export function addLeft<T>(of: RefusedPart<T> | undefined, count: number): void {
  for (let part = of; part !== undefined; part = part.of) part.left += count;
}
