/**
 * The counts of all label sets, as reads find them one after the other. A read of a thousand label sets has tens of thousands of fields. Redis replies with
 * them in nearly the same order each time, so a field is compared with the one that was at its place before, and nothing is looked up or copied.
 */
import type { ShardCounts } from "./task-counts.ts";

/** What one read found. It never changes. */
export interface Counts {
  /** Numbers of the codes, for `SetCounts`. */
  readonly codes: ReadonlyMap<string, number>;
  readonly bySet: ReadonlyMap<string, SetCounts>;
  readonly gauges: readonly GaugeCount[];
}

/** A gauge's field, whose code begins with `q`. */
export interface GaugeCount {
  readonly set: string;
  readonly code: string;
  readonly count: number;
}

/** The counts of one label set. */
export class SetCounts {
  readonly #slots: readonly number[];
  readonly #values: Float64Array;

  constructor(slots: readonly number[], values: Float64Array) {
    this.#slots = slots;
    this.#values = values;
  }

  /**
   * 0 if nothing was counted.
   *
   * @param code its number; undefined if it has none, because nobody counted in it.
   */
  get(code: number | undefined): number {
    if (code === undefined || code >= this.#slots.length) return 0;
    const slot = this.#slots[code] ?? NO_SLOT;
    // What a later read added may have no value here.
    return slot === NO_SLOT ? 0 : (this.#values[slot] ?? 0);
  }
}

const GAUGE = "q";
const DOT = ".";
const SPACE = 32;
const DIGIT_0 = 48;
/** So many digits are always exact. */
const EXACT_DIGITS = 15;
const FIRST_CAPACITY = 1_024;
const NO_SLOT = -1;

/** What a shard replied, with the beginning and the slot of each field, alternating. */
interface Order {
  readonly reply: Uint8Array;
  readonly places: Int32Array;
}

const NO_ORDER: Order = { reply: new Uint8Array(), places: new Int32Array() };

export class CountTable {
  readonly #codes = new Map<string, number>();
  /** The slots of each label set, by the number of the code. */
  #sets = new Map<string, number[]>();
  #values = new Float64Array(FIRST_CAPACITY);
  /** Slots in use. */
  #size = 0;
  /** Of each shard. */
  #orders: readonly Order[] = [];

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
    this.#orders = shards.map((shard, index) => this.#readShard(shard, this.#orders[index] ?? NO_ORDER, gauges));
    const values = this.#values;
    const bySet = new Map<string, SetCounts>();
    for (const [id, slots] of this.#sets) {
      if (!isShown(id)) continue;
      for (const slot of slots) {
        if (slot === NO_SLOT) continue;
        const shown = before[slot] ?? 0;
        if (shown > (values[slot] ?? 0)) values[slot] = shown;
      }
      bySet.set(id, new SetCounts(slots, values));
    }
    if (bySet.size < this.#sets.size) this.#keepOnly(bySet);
    return { codes: this.#codes, bySet, gauges };
  }

  #readShard({ counts, floors }: ShardCounts, order: Order, gauges: GaugeCount[]): Order {
    const lowest = new Map(floors === "" ? [] : pairsOf(floors));
    // As many fields as before, and some.
    let places = new Int32Array(order.places.length + FIRST_CAPACITY);
    let next = 0;
    // Bytes are read several times as fast as the characters of a text.
    const reply = Buffer.from(counts);
    const textOf = (from: number, length: number): string => reply.toString("utf8", from, from + length);
    for (let at = 0; at < reply.length; next += 2) {
      if (next === places.length) places = grown(places);
      let slot = order.places[next + 1] ?? NO_SLOT;
      let length = next < order.places.length ? sameField(order.reply, order.places[next] ?? 0, reply, at) : 0;
      if (length === 0) {
        length = endOf(reply, at) - at;
        slot = this.#slotOf(textOf(at, length));
      }
      const from = at + length + 1;
      let end = from;
      let count = 0;
      for (let digit = digitAt(reply, end); digit >= 0 && digit <= 9; digit = digitAt(reply, ++end)) count = count * 10 + digit;
      if (end - from > EXACT_DIGITS || (end < reply.length && reply[end] !== SPACE)) {
        end = endOf(reply, from);
        count = Number(textOf(from, end - from));
      }
      if (lowest.size > 0) {
        const field = textOf(at, length);
        count = Math.max(count, lowest.get(field) ?? 0);
        lowest.delete(field);
      }
      places[next] = at;
      places[next + 1] = slot;
      if (slot !== NO_SLOT) this.#add(slot, count);
      else if (count > 0) gauges.push({ ...partsOf(textOf(at, length)), count });
      at = end + 1;
    }
    for (const [field, floor] of lowest) {
      const slot = this.#slotOf(field);
      if (slot !== NO_SLOT) this.#add(slot, floor);
    }
    return { reply, places: places.slice(0, next) };
  }

  #add(slot: number, count: number): void {
    this.#values[slot] = (this.#values[slot] ?? 0) + count;
  }

  /** `NO_SLOT` for a gauge: gauges come and go, so nothing is kept of them. */
  #slotOf(field: string): number {
    const { set: id, code } = partsOf(field);
    if (code.startsWith(GAUGE)) return NO_SLOT;
    let slots = this.#sets.get(id);
    if (slots === undefined) this.#sets.set(id, (slots = []));
    let number = this.#codes.get(code);
    if (number === undefined) this.#codes.set(code, (number = this.#codes.size));
    const known = slots[number] ?? NO_SLOT;
    if (known !== NO_SLOT) return known;
    while (slots.length < number) slots.push(NO_SLOT);
    if (this.#size === this.#values.length) this.#values = grown(this.#values);
    return (slots[number] = this.#size++);
  }

  /** Begins anew with these. Earlier reads keep their slots and values. */
  #keepOnly(sets: ReadonlyMap<string, SetCounts>): void {
    this.#sets = new Map();
    this.#size = 0;
    this.#orders = [];
    this.#values = new Float64Array(FIRST_CAPACITY);
    for (const [id, counts] of sets) {
      for (const [code, number] of this.#codes) {
        const count = counts.get(number);
        if (count > 0) this.#add(this.#slotOf(`${id}${DOT}${code}`), count);
      }
    }
  }
}

function grown<T extends Int32Array | Float64Array>(numbers: T): T {
  const larger = new (numbers.constructor as new (length: number) => T)(numbers.length * 2);
  larger.set(numbers);
  return larger;
}

/** The length of a field that both have there, with the space behind it; otherwise 0. */
function sameField(one: Uint8Array, at: number, other: Uint8Array, otherAt: number): number {
  for (let length = 0; at + length < one.length; length += 1) {
    const code = one[at + length];
    if (code !== other[otherAt + length]) return 0;
    if (code === SPACE) return length;
  }
  return 0;
}

/** Where the word ends. */
function endOf(text: Buffer, from: number): number {
  const end = text.indexOf(SPACE, from);
  return end === -1 ? text.length : end;
}

/** -1 at the end. */
function digitAt(text: Uint8Array, at: number): number {
  return at < text.length ? (text[at] ?? 0) - DIGIT_0 : -1;
}

function partsOf(field: string): { readonly set: string; readonly code: string } {
  const dot = field.indexOf(DOT);
  return { set: field.slice(0, dot), code: field.slice(dot + 1) };
}

/** The fields and numbers of a reply. */
function* pairsOf(text: string): Generator<[field: string, number: number]> {
  const parts = text.split(" ");
  for (let index = 0; index < parts.length; index += 2) yield [parts[index] as string, Number(parts[index + 1])];
}
