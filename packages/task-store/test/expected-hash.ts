/** The hash that the in-memory merge predicts for a task that was neither claimed nor reported. */
import type { TaskChange } from "../src/facts/task-changes.ts";

export function expectedHash({ texts, facts }: TaskChange): Map<string, string> {
  const fields = texts.flatMap((text) => text.fields);
  for (const fact of facts) fields.push(fact, "");
  const hash = new Map<string, string>();
  for (let index = 0; index < fields.length; index += 2) hash.set(fields[index] ?? "", fields[index + 1] ?? "");
  return hash;
}
