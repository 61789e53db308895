/** The hash that the in-memory merge predicts for a task that was neither claimed nor reported. */
import type { TaskChange } from "../src/facts/task-changes.ts";

export function expectedHash({ texts, facts }: TaskChange): Map<string, string> {
  const fields = texts.flatMap((text) => text.fields);
  for (const fact of facts) fields.push(fact, "");
  const hash = new Map<string, string>();
  for (let index = 0; index < fields.length; index += 2) hash.set(fields[index] ?? "", fields[index + 1] ?? "");
  return hash;
}

/** The same entry once these facts were reported. */
export function withMarks(hash: ReadonlyMap<string, string>, reported: { has(fact: string): boolean }): Map<string, string> {
  const marked = new Map([["o", "1s"]]);
  for (const [field, value] of hash) marked.set(field, /^[bfy]/.test(field) && !reported.has(field) ? `0${value}` : value);
  return marked;
}
