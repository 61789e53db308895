/** Makes one to four random changes to bytes, a text, or a value. */
import { NASTY_KEYS, NASTY_NUMBERS, NASTY_TEXTS, TOKENS, nastyContainers } from "./nasty-values.ts";
import type { Random } from "./random.ts";

export function mutateBytes(bytes: Buffer, random: Random): Buffer {
  return repeatedly(bytes, random, changeBytes);
}

export function mutateText(text: string, random: Random): string {
  return repeatedly(text, random, changeText);
}

/** May change `value` itself. Returns it or another value. */
export function mutateValue(value: unknown, random: Random): unknown {
  return repeatedly(value, random, changeValue);
}

function repeatedly<T>(given: T, random: Random, change: (value: T, random: Random) => T): T {
  let value = given;
  for (let left = 1 + random.below(4); left > 0; left--) value = change(value, random);
  return value;
}

function changeBytes(bytes: Buffer, random: Random): Buffer {
  const position = random.below(bytes.length + 1);
  const length = 1 + random.below(8);
  const [before, after] = [bytes.subarray(0, position), bytes.subarray(position)];
  switch (random.below(6)) {
    case 0:
      return Buffer.concat([before, random.bytes(length), after.subarray(length)]);
    case 1:
      return Buffer.concat([before, random.bytes(length), after]);
    case 2:
      return Buffer.concat([before, after.subarray(length)]);
    case 3:
      return Buffer.concat([before, before.subarray(-64), after]);
    case 4:
      return before;
    default: {
      // A single bit, which turns a length or a type of msgpack into its neighbor.
      const flipped = Buffer.from(bytes);
      if (position < flipped.length) flipped[position] = (flipped[position] ?? 0) ^ (1 << random.below(8));
      return flipped;
    }
  }
}

function changeText(text: string, random: Random): string {
  const position = random.below(text.length + 1);
  const [before, after] = [text.slice(0, position), text.slice(position)];
  const token = random.pick(TOKENS) ?? "";
  switch (random.below(5)) {
    case 0:
      return before + token + after;
    case 1:
      return before + token + after.slice(token.length);
    case 2:
      return before + after.slice(1 + random.below(12));
    case 3:
      return before + after.slice(0, 40) + after;
    default:
      return before + token.repeat(random.below(200)) + after;
  }
}

type Holder = Record<string, unknown>;

/** Makes a change at a random place: another value, another key, one less, one more, or one nested in another. */
function changeValue(value: unknown, random: Random): unknown {
  const holder = randomHolder(value, random);
  const key = holder === undefined ? undefined : random.pick(Object.keys(holder));
  if (holder === undefined || key === undefined || random.below(20) === 0) return nasty(random);
  switch (random.below(6)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      break;
    case 1:
      if (!Array.isArray(holder)) define(holder, random.pick(NASTY_KEYS), holder[key]);
      break;
    case 2:
      holder[key] = [holder[key]];
      break;
    default:
      holder[key] = nasty(random);
  }
  return value;
}

/** An object or list within the value, or the value itself. */
function randomHolder(value: unknown, random: Random): Holder | undefined {
  let holder: Holder | undefined;
  for (let candidate = value; typeof candidate === "object" && candidate !== null;) {
    holder = candidate as Holder;
    const children = Object.values(holder).filter((child) => typeof child === "object" && child !== null);
    if (children.length === 0 || random.below(4) === 0) break;
    candidate = random.pick(children);
  }
  return holder;
}

function nasty(random: Random): unknown {
  switch (random.below(5)) {
    case 0:
      return random.pick(NASTY_TEXTS);
    case 1:
      return random.pick(NASTY_NUMBERS);
    case 2:
      return random.pick(nastyContainers());
    case 3:
      return mutateText("([2, 'été', {'a': None}],)", random);
    default:
      return random.pick([null, true, false, undefined, "task-succeeded", "task-sent", 5]);
  }
}

/** An own property, also for `__proto__`. */
function define(holder: Holder, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}
