/** What names a group of failures. */
import type { FailureGroup } from "../api/types.ts";

export function keyOf({ name, status, exception, message }: FailureGroup): string {
  return [name, status, exception, message].join("\u0000");
}

/** Short for its key, in the address: which groups are open is shared and comes back with it. */
export function markOf(group: FailureGroup): string {
  let hash = 0x811c9dc5;
  for (const character of keyOf(group)) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0).toString(36);
}
