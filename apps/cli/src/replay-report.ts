/** What a replay tells: how far it is, and at the end what was replayed, what was left, and why. */
import type { ReplayedLetter } from "@celery-metrics-exporter/pipeline";
import type { Terminal } from "./terminal.ts";

const PROGRESS_EVERY = 1_000;

interface Group {
  readonly source: string;
  readonly reason: string;
  letters: number;
  left: number;
}

export class ReplayReport {
  readonly #terminal: Pick<Terminal, "write">;
  readonly #isDryRun: boolean;
  readonly #groups = new Map<string, Group>();
  readonly #left = new Map<string, number>();
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

  /** Whether nothing was left, or nothing was to be done. */
  get isComplete(): boolean {
    return this.#isDryRun || this.#left.size === 0;
  }

  finish(): void {
    if (this.#letters === 0) return this.#terminal.write("No dead letters to replay.\n");
    if (this.#isDryRun) this.#terminal.write(this.#table());
    const leftLetters = [...this.#left.values()].reduce((sum, count) => sum + count, 0);
    const reasons = [...this.#left].map(([because, count]) => `${count} ${because}`).join("; ");
    const done = `${this.#letters - leftLetters} ${this.#isDryRun ? "could be replayed" : "replayed"}`;
    this.#terminal.write(leftLetters === 0 ? `${done}.\n` : `${done}, ${leftLetters} left (${reasons}).\n`);
  }

  /** What is told of a run that an error ends. */
  interrupt(): void {
    if (this.#letters === 0) return;
    this.finish();
    this.#terminal.write("Interrupted: run it again for the rest.\n");
  }

  #count({ source, reason, left }: ReplayedLetter): void {
    const key = JSON.stringify([source, reason]);
    const group = this.#groups.get(key) ?? { source, reason, letters: 0, left: 0 };
    this.#groups.set(key, group);
    group.letters += 1;
    this.#letters += 1;
    if (left === undefined) return;
    group.left += 1;
    this.#left.set(left, (this.#left.get(left) ?? 0) + 1);
  }

  /** One line for each source and reason. */
  #table(): string {
    const rows = [["source", "reason", "letters", "replayable"]];
    for (const { source, reason, letters, left } of this.#groups.values())
      rows.push([source, reason, String(letters), String(letters - left)]);
    const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    const lines = rows.map((row) =>
      row.map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))),
    );
    return `${lines.map((line) => line.join("  ").trimEnd()).join("\n")}\n\n`;
  }
}
