/** The length of fault tests: seconds in `npm test`, minutes in `pnpm test:soak`, which sets SOAK=1. */

export const SOAK = process.env["SOAK"] === "1";

/** The size of a test (seconds, events, repetitions): a small one for every run, the full one for the soak test. */
export function scaled<T>(short: T, full: T): T {
  return SOAK ? full : short;
}
