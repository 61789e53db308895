/** The size of expensive tests: small in `npm test` and `npm run test:faults`, full in `pnpm test:soak`, which sets SOAK=1. */

export const SOAK = process.env["SOAK"] === "1";

/** The size of a test (seconds, events, repetitions, examples of a property): a small one for every run, the full one for the soak test. */
export function scaled<T>(short: T, full: T): T {
  return SOAK ? full : short;
}
