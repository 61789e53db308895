/** What names a group of failures. */
import type { FailureGroup } from "../api/types.ts";

type Named = Pick<FailureGroup, "name" | "status" | "exception" | "message">;

/** Differs between the groups of an answer. */
export function keyOf({ name, status, exception, message }: Named): string {
  return JSON.stringify([name, status, exception, message]);
}

/** Short for its key, in the address: which groups are open is shared and comes back with it. */
export function markOf({ message, ...kind }: Named): string {
  const mark = hashOf(keyOf({ ...kind, message: null }));
  return message === null ? mark : `${mark}.${hashOf(message)}`;
}

/** Whether a mark of an address names the group. For a viewer, who gets no messages, all those of others that differ only in it are one group. */
export function isNamedBy(mark: string, group: Named): boolean {
  const own = markOf(group);
  return own === mark || own.startsWith(`${mark}.`) || mark.startsWith(`${own}.`);
}

function hashOf(text: string): string {
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0).toString(36);
}
