/** Prints the progress of a replay and, at the end, what happened to the letters and why. */
import type { ReplayedLetter } from "@celery-metrics-exporter/pipeline";
import { renderColumns } from "./columns.ts";
import type { Terminal } from "../terminal.ts";

const PROGRESS_EVERY = 1_000;

/** Letters of one source and reason. */
interface Group {
  readonly source: string;
  readonly reason: string;
  letters: number;
  replayable: number;
}

type Outcome = ReplayedLetter["outcome"];

const DONE: Readonly<Record<Outcome, string>> = { replayed: "replayed", discarded: "discarded", left: "left" };
const POSSIBLE: Readonly<Record<Outcome, string>> = { replayed: "could be replayed", discarded: "would be discarded", left: "left" };

export class ReplayReport {
  readonly #terminal: Pick<Terminal, "write">;
  readonly #isDryRun: boolean;
  readonly #groups = new Map<string, Group>();
  readonly #counts: Record<Outcome, number> = { replayed: 0, discarded: 0, left: 0 };
  /** Counts of letters that cannot be replayed, by reason. */
  readonly #reasons = new Map<string, number>();
  #letters = 0;

  constructor(terminal: Pick<Terminal, "write">, isDryRun: boolean) {
    this.#terminal = terminal;
    this.#isDryRun = isDryRun;
  }

  add(letters: readonly ReplayedLetter[]): void {
    const before = this.#letters;
    for (const letter of letters) this.#count(letter);
    if (Math.floor(before / PROGRESS_EVERY) < Math.floor(this.#letters / PROGRESS_EVERY))
      this.#terminal.write(`${this.#letters} letters …\n`);
  }

  finish(): void {
    if (this.#letters === 0) return this.#terminal.write("No dead letters to replay.\n");
    if (this.#isDryRun) this.#terminal.write(this.#table());
    this.#terminal.write(`${this.#summary()}.\n`);
    if (this.#counts.left > 0) this.#terminal.write("To remove the letters that cannot be replayed, use --discard.\n");
  }

  /** Printed when an error ends the run. */
  interrupt(): void {
    if (this.#letters === 0) return;
    this.finish();
    this.#terminal.write("Interrupted: run it again to replay the rest.\n");
  }

  #count({ source, reason, outcome, because }: ReplayedLetter): void {
    const key = JSON.stringify([source, reason]);
    const group = this.#groups.get(key) ?? { source, reason, letters: 0, replayable: 0 };
    this.#groups.set(key, group);
    group.letters += 1;
    if (because === undefined) group.replayable += 1;
    else this.#reasons.set(because, (this.#reasons.get(because) ?? 0) + 1);
    this.#counts[outcome] += 1;
    this.#letters += 1;
  }

  /** Either all letters that cannot be replayed are left, or all are discarded. */
  #summary(): string {
    const words = this.#isDryRun ? POSSIBLE : DONE;
    const { replayed, discarded, left } = this.#counts;
    // A dry run rejects nothing again.
    const tense = (because: string): string => (this.#isDryRun && because === "rejected again" ? "still not readable" : because);
    const reasons = [...this.#reasons].map(([because, count]) => `${count} ${tense(because)}`).join("; ");
    const why = reasons === "" ? "" : ` (${reasons})`;
    return [
      ...(replayed > 0 || discarded === 0 ? [`${replayed} ${words.replayed}`] : []),
      ...(discarded > 0 ? [`${discarded} ${words.discarded}${why}`] : []),
      ...(left > 0 ? [`${left} ${words.left}${why}`] : []),
    ].join(", ");
  }

  /** One line per source and reason. */
  #table(): string {
    const rows = [["source", "reason", "letters", "replayable"]];
    for (const { source, reason, letters, replayable } of this.#groups.values())
      rows.push([source, reason, String(letters), String(replayable)]);
    return `${renderColumns(rows, { right: new Set([2, 3]) }).join("\n")}\n\n`;
  }
}
