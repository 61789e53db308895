import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { LONG_FIELDS } from "../src/completions/forget.ts";
import type { Settlement } from "../src/completions/summarise.ts";
import { collectChanges } from "../src/facts/task-changes.ts";
import { parseTaskEntry } from "../src/facts/task-entry.ts";
import type { Claim } from "../src/task-store.ts";
import { expectedHash, withMarks } from "./expected-hash.ts";

const PLAIN = { keepWorker: false, keepException: false };

/** The entry of a task without its state, the facts of it that were reported, and the size at which it counts as too long the next time. */
interface Held {
  readonly hash: Map<string, string>;
  readonly reported: Set<string>;
  limit: number;
}

/**
 * The Store's scripts, in memory, for tests of what is reported. It has no leases and no expiry, and no entry is ever full. The cases in
 * `completions/looks.ts` run on both.
 */
export class MemoryStore {
  readonly #tasks = new Map<string, Held>();

  clear(): void {
    this.#tasks.clear();
  }

  /** The fields of a task's entry. */
  fields(id: string): string[] {
    return [...(this.#tasks.get(id)?.hash.keys() ?? [])];
  }

  async apply(events: readonly CeleryEvent[]): Promise<string[]> {
    const reported: string[] = [];
    for (const [id, change] of collectChanges(events, PLAIN)) {
      const held = this.#tasks.get(id) ?? newEntry();
      this.#tasks.set(id, held);
      let isPending = false;
      for (const [field, value] of expectedHash(change)) {
        if (!held.hash.has(field) && !isForgotten(held, field)) held.hash.set(field, value);
        if (field.startsWith("f") && held.hash.has(field) && !held.reported.has(field)) isPending = true;
      }
      if (!isPending && held.hash.size >= held.limit) {
        held.limit = 2 * held.hash.size;
        isPending = true;
      }
      if (isPending) reported.push(id);
    }
    return reported;
  }

  async claim(_job: string, ids: readonly string[]): Promise<Map<string, Claim>> {
    return new Map(ids.map((id) => [id, this.#claim(this.#tasks.get(id) ?? newEntry())]));
  }

  async settle(_job: string, sent: ReadonlyMap<string, Settlement>): Promise<void> {
    for (const [id, { fields, forgotten }] of sent) {
      const { hash, reported } = this.#tasks.get(id) ?? newEntry();
      for (const field of fields) reported.add(field);
      for (const field of forgotten.fields) hash.delete(field);
      for (let index = 0; index < forgotten.until.length; index += 2) {
        const [hostname, instant = ""] = forgotten.until.slice(index);
        const before = hash.get(`w${hostname}`) ?? "";
        hash.set(`w${hostname}`, Number.parseInt(before, 36) > Number.parseInt(instant, 36) ? before : instant);
      }
    }
  }

  #claim({ hash, reported }: Held): Claim {
    const isPending = hash.size >= LONG_FIELDS || [...hash.keys()].some((field) => field.startsWith("f") && !reported.has(field));
    return isPending
      ? { outcome: "claimed", entry: parseTaskEntry([...withMarks(hash, reported)].flat()), waitedMs: 0 }
      : { outcome: "reported" };
  }
}

function newEntry(): Held {
  return { hash: new Map(), reported: new Set(), limit: LONG_FIELDS };
}

/** Whether it is a fact, and the entry has forgotten what its hostname reported until then. */
function isForgotten({ hash }: Held, field: string): boolean {
  const [, kind, at = "", hostname = ""] = /^([srbfy])([^.]*)\.?([^.]*)/.exec(field) ?? [];
  if (kind === undefined) return false;
  return Number.parseInt(at, 36) <= Number.parseInt(hash.get(kind === "s" ? "w" : `w${hostname}`) ?? "", 36);
}
