/** The rejects of one frame: few entries, however many there are. */
import { excerptOfValue } from "./excerpt.ts";
import type { Rejected } from "./frame.ts";
import type { Refusal } from "./normalise.ts";

/** So many have an entry each; a frame of a million numbers must not become a million dead letters. */
const MAX_DESCRIBED = 100;

export class Rejects {
  readonly entries: Rejected[] = [];
  readonly #folded = new Map<Refusal, { count: number }>();

  add(refusal: Refusal, item: unknown): void {
    const folded = this.#folded.get(refusal);
    if (folded !== undefined) {
      folded.count += 1;
      return;
    }
    const { reason, detail } = refusal;
    const { raw, isWhole } = excerptOfValue(item);
    if (this.entries.length < MAX_DESCRIBED) {
      this.entries.push({ reason, detail, raw, ...(isWhole && { readAs: "event" }), count: 1 });
      return;
    }
    // It may come to stand for more than its `raw`.
    const entry = { reason, detail, raw, count: 1 };
    this.#folded.set(refusal, entry);
    this.entries.push(entry);
  }
}
