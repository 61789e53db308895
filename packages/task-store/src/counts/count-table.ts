/**
 * The counts of all label sets, as reads find them one after the other. A read of a thousand label sets has tens of thousands of fields. Redis replies with
 * them in nearly the same order each time, so a field is compared with the one that was at its place before, and nothing is looked up or copied.
 */
import type { ShardCounts } from "./task-counts.ts";

/** What one read found. It never changes. */
export interface Counts {
  readonly bySet: ReadonlyMap<string, SetCounts>;
  readonly gauges: readonly GaugeCount[];
}

/** A gauge's field, whose code begins with `q`. */
export interface GaugeCount {
  readonly set: string;
  readonly code: string;
  readonly count: number;
}

/** The counts of one label set, by code. */
export class SetCounts {
  readonly #slots: ReadonlyMap<string, number>;
  readonly #values: Float64Array;

  constructor(slots: ReadonlyMap<string, number>, values: Float64Array) {
    this.#slots = slots;
    this.#values = values;
  }

  /** 0 if nothing was counted. */
  get(code: string): number {
    const slot = this.#slots.get(code);
    // A code that was added by a later read has no value here.
    return slot === undefined ? 0 : (this.#values[slot] ?? 0);
  }

  /** @param prefix of the codes. */
  *startingWith(prefix: string): Generator<readonly [code: string, count: number]> {
    for (const [code, slot] of this.#slots) if (code.startsWith(prefix)) yield [code, this.#values[slot] ?? 0];
  }
}

const GAUGE = "q";
const DOT = ".";
const SPACE = 32;
const DIGIT_0 = 48;
/** So many digits are always exact. */
const EXACT_DIGITS = 15;
const FIRST_CAPACITY = 1_024;

interface FieldSet {
  readonly id: string;
  readonly slots: Map<string, number>;
  isShown: boolean;
}

/** A field of a reply, with the place of its count. Of a gauge, which comes and goes, nothing is kept. */
interface Field {
  readonly text: string;
  readonly set: FieldSet;
  readonly slot: number;
}

interface Gauge {
  readonly text: string;
  readonly set: string;
  readonly code: string;
}

export class CountTable {
  readonly #sets = new Map<string, FieldSet>();
  readonly #fields = new Map<string, Field>();
  /** For each shard, what its last reply contained, in order. */
  #orders: readonly (readonly (Field | Gauge)[])[] = [];
  #values = new Float64Array(FIRST_CAPACITY);
  #size = 0;
  /** Slots of sets that are gone. */
  #free: number[] = [];

  /**
   * Adds up the shards. A count is never smaller than it was at the read before: Redis may lose its last writes in a failover, and Prometheus would take a
   * smaller value for a restart from 0.
   *
   * @param isShown whether a label set is shown. Nothing is remembered of the others.
   */
  read(shards: readonly ShardCounts[], isShown: (set: string) => boolean): Counts {
    const before = this.#values;
    this.#values = new Float64Array(before.length);
    const gauges: GaugeCount[] = [];
    this.#orders = shards.map((shard, index) => this.#readShard(shard, this.#orders[index] ?? [], gauges));
    for (const set of this.#sets.values()) set.isShown = isShown(set.id);
    for (const { set, slot } of this.#fields.values()) {
      const shown = before[slot] ?? 0;
      if (shown > (this.#values[slot] ?? 0) && set.isShown) this.#values[slot] = shown;
    }
    const bySet = new Map<string, SetCounts>();
    for (const set of this.#sets.values()) {
      if (set.isShown) bySet.set(set.id, new SetCounts(set.slots, this.#values));
      else this.#forget(set);
    }
    return { bySet, gauges };
  }

  #readShard({ counts, floors }: ShardCounts, order: readonly (Field | Gauge)[], gauges: GaugeCount[]): (Field | Gauge)[] {
    const lowest = new Map(floors === "" ? [] : pairsOf(floors));
    const found: (Field | Gauge)[] = [];
    for (let at = 0; at < counts.length;) {
      let field = order[found.length];
      if (field === undefined || !isAt(counts, at, field)) field = this.#fieldOf(counts.slice(at, counts.indexOf(" ", at)));
      const from = at + field.text.length + 1;
      let digits = 0;
      let count = 0;
      for (let code = counts.charCodeAt(from); code >= DIGIT_0 && code <= DIGIT_0 + 9; code = counts.charCodeAt(from + digits)) {
        count = count * 10 + code - DIGIT_0;
        digits += 1;
      }
      let end = from + digits;
      if (digits > EXACT_DIGITS || (end < counts.length && counts.charCodeAt(end) !== SPACE)) {
        end = counts.indexOf(" ", from);
        if (end === -1) end = counts.length;
        count = Number(counts.slice(from, end));
      }
      if (lowest.size > 0) {
        count = Math.max(count, lowest.get(field.text) ?? 0);
        lowest.delete(field.text);
      }
      found.push(field);
      if ("slot" in field) this.#add(field, count);
      else if (count > 0) gauges.push({ set: field.set, code: field.code, count });
      at = end + 1;
    }
    for (const [text, floor] of lowest) {
      const field = this.#fieldOf(text);
      if ("slot" in field) this.#add(field, floor);
    }
    return found;
  }

  #add({ slot }: Field, count: number): void {
    this.#values[slot] = (this.#values[slot] ?? 0) + count;
  }

  #fieldOf(text: string): Field | Gauge {
    const known = this.#fields.get(text);
    if (known !== undefined) return known;
    const dot = text.indexOf(DOT);
    const [id, code] = [text.slice(0, dot), text.slice(dot + 1)];
    if (code.startsWith(GAUGE)) return { text, set: id, code };
    let set = this.#sets.get(id);
    if (set === undefined) this.#sets.set(id, (set = { id, slots: new Map(), isShown: false }));
    const slot = this.#free.pop() ?? this.#size++;
    if (slot >= this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    set.slots.set(code, slot);
    const field = { text, set, slot };
    this.#fields.set(text, field);
    return field;
  }

  /** Earlier reads have their own values, so its slots can be used again. */
  #forget(set: FieldSet): void {
    this.#sets.delete(set.id);
    for (const [code, slot] of set.slots) {
      this.#fields.delete(`${set.id}${DOT}${code}`);
      this.#values[slot] = 0;
      this.#free.push(slot);
    }
  }
}

/** Whether this field is next. Not if its set was forgotten since. */
function isAt(reply: string, at: number, field: Field | Gauge): boolean {
  if ("slot" in field && !field.set.isShown) return false;
  return reply.charCodeAt(at + field.text.length) === SPACE && reply.startsWith(field.text, at);
}

/** The fields and numbers of a reply. */
function* pairsOf(text: string): Generator<[field: string, number: number]> {
  const parts = text.split(" ");
  for (let index = 0; index < parts.length; index += 2) yield [parts[index] as string, Number(parts[index + 1])];
}
