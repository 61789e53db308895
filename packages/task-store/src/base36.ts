/** Whole numbers in base 36. */

const PAIRS_OF_DIGITS = 36 ** 2;
const PAIRS = Array.from({ length: PAIRS_OF_DIGITS }, (_, number) => number.toString(36).padStart(2, "0"));
/** Without a leading zero. */
const FIRST_PAIRS = Array.from({ length: PAIRS_OF_DIGITS }, (_, number) => number.toString(36));

/**
 * What `toString(36)` writes, for whole numbers from 0 to `Number.MAX_SAFE_INTEGER`, in a quarter of its time: every fact has an instant, and
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

/** The number that begins at `from`: all that can be digits up to the next character that cannot; 0 where there are none. */
export function readBase36(text: string, from: number): number {
  let number = 0;
  for (let index = from; index < text.length; index += 1) {
    const digit = digitOf(text.charCodeAt(index));
    if (digit === undefined) break;
    number = number * 36 + digit;
  }
  return number;
}

function digitOf(code: number): number | undefined {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  return code >= 0x61 && code <= 0x7a ? code - 0x61 + 10 : undefined;
}
