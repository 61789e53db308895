/** How long a fault test runs: seconds in `npm test`, minutes in `pnpm test:soak`, which sets SOAK=1. */

export const SOAK = process.env["SOAK"] === "1";

/** The value of a test's dimension (seconds, events, repetitions): a short one for every run, the full one for the soak. */
export function scaled<T>(short: T, full: T): T {
  return SOAK ? full : short;
}
