/** Seconds as text, up to the point. Instants that are written together are close together. */
const known = new Map<number, string>();
const MAX_KNOWN = 10_000;

/** An instant as text, in ISO 8601 with microseconds, in UTC. @param microseconds since 1970. */
export function isoInstant(microseconds: number): string {
  const second = Math.floor(microseconds / 1e6);
  let text = known.get(second);
  if (text === undefined) {
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(second, (text = new Date(second * 1_000).toISOString().slice(0, -4)));
  }
  return `${text}${String(microseconds - second * 1e6).padStart(6, "0")}Z`;
}
