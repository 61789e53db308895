/** Whole numbers in base 36, hashes, and texts by size. */
import { ownText } from "@celery-metrics-exporter/celery";

const PAIRS_OF_DIGITS = 36 ** 2;
const PAIRS = Array.from({ length: PAIRS_OF_DIGITS }, (_, number) => number.toString(36).padStart(2, "0"));
/** Without a leading zero. */
const FIRST_PAIRS = Array.from({ length: PAIRS_OF_DIGITS }, (_, number) => number.toString(36));

/**
 * The same as `toString(36)`, for whole numbers from 0 to `Number.MAX_SAFE_INTEGER`, but four times as fast. Every fact has an instant, and
 * beyond 2^31 V8 divides doubles digit by digit.
 */
export function toBase36(number: number): string {
  let rest = number;
  let text = "";
  while (rest >= PAIRS_OF_DIGITS) {
    const before = Math.floor(rest / PAIRS_OF_DIGITS);
    text = `${PAIRS[rest - before * PAIRS_OF_DIGITS]}${text}`;
    rest = before;
  }
  return `${FIRST_PAIRS[rest]}${text}`;
}

/** The value of each digit by its character code; 255 for other characters. */
const DIGITS = Uint8Array.from({ length: 128 }, (_, code) => {
  const digit = "0123456789abcdefghijklmnopqrstuvwxyz".indexOf(String.fromCharCode(code));
  return digit === -1 ? 255 : digit;
});

/** The number at `from`: all digits up to the first other character; 0 if there are none. */
export function readBase36(text: string, from: number): number {
  let number = 0;
  for (let index = from; index < text.length; index += 1) {
    const digit = DIGITS[text.charCodeAt(index)] ?? 255;
    if (digit === 255) return number;
    number = number * 36 + digit;
  }
  return number;
}

// Short, stable hashes, for spreading keys and distinguishing hostnames. Not for secrets.

/** FNV-1a over UTF-16 code units, with MurmurHash3's final mix so that every bit depends on every other. An unsigned 32-bit number. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Remembers what was worked out from a text, and forgets all of it when it is more than `most` texts. */
export function remembering<T>(most: number, workOut: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const value = workOut(text);
    if (known.size >= most) known.clear();
    known.set(text, value);
    return value;
  };
}

const MAX_KNOWN_COPIES = 10_000;
const copies = new Map<string, string>();

/**
 * The same text, without the memory of a larger one that it was cut out of; see `ownText`. For texts that are kept: there are few of them,
 * so each is copied once.
 */
export function ownCopy(text: string): string {
  const known = copies.get(text);
  if (known !== undefined) return known;
  const copy = ownText(text);
  if (copies.size >= MAX_KNOWN_COPIES) copies.clear();
  copies.set(copy, copy);
  return copy;
}

const HOST_HASHES = 36 ** 5;
const MAX_KNOWN_HOSTNAMES = 10_000;

/**
 * Shortens a hostname to at most 5 characters. Only workers of the same task are ever compared. Two workers get the same hash once in 60
 * million tasks; a second run then counts as the first. There are few hostnames, and every kind of fact but one names one.
 */
export const hostnameHash = remembering(MAX_KNOWN_HOSTNAMES, (hostname) => (hash32(hostname) % HOST_HASHES).toString(36));

/** Splits a string into at most `maxParts` pieces of at most `maxBytes` UTF-8 bytes, never within a character. Drops the rest. */
export function splitUtf8(text: string, maxBytes: number, maxParts: number): string[] {
  const parts: string[] = [];
  let part = "";
  let size = 0;
  for (const character of text) {
    const bytes = Buffer.byteLength(character);
    if (size + bytes > maxBytes) {
      parts.push(part);
      if (parts.length === maxParts) return parts;
      part = "";
      size = 0;
    }
    part += character;
    size += bytes;
  }
  return [...parts, part];
}
