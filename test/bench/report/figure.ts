/** A measured figure: one value for each round, and what is wanted of it. */

export interface Figure {
  /** What was measured, such as `receiver, RabbitMQ, task.multi`. */
  readonly name: string;
  readonly unit: string;
  /** At least one. */
  readonly rounds: readonly number[];
  readonly goal?: Goal;
}

/** The median has to be at most, or at least, this much. */
export type Goal = { readonly atMost: number } | { readonly atLeast: number };

/** Figures that belong together: one block of the table. */
export interface Section {
  readonly title: string;
  /** What a reader has to know of how it was measured. */
  readonly note: string;
  readonly figures: readonly Figure[];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  const [low = Number.NaN, high = Number.NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** Undefined where nothing is wanted of it. */
export function meetsGoal({ rounds, goal }: Figure): boolean | undefined {
  if (goal === undefined) return undefined;
  return "atMost" in goal ? median(rounds) <= goal.atMost : median(rounds) >= goal.atLeast;
}

export function describeGoal(goal: Goal): string {
  return "atMost" in goal ? `≤ ${formatNumber(goal.atMost)}` : `≥ ${formatNumber(goal.atLeast)}`;
}

/** Three digits that count, whole thousands with separators. */
export function formatNumber(value: number): string {
  return value.toLocaleString("en", value >= 1_000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });
}

/** Collects the rounds of figures that are measured together. */
export class Rounds {
  readonly #figures = new Map<string, { unit: string; rounds: number[]; goal: Goal | undefined }>();

  add(name: string, unit: string, value: number, goal?: Goal): void {
    const figure = this.#figures.get(name) ?? { unit, rounds: [], goal };
    figure.rounds.push(value);
    this.#figures.set(name, figure);
  }

  /** In the order in which they were first added. */
  figures(): Figure[] {
    return [...this.#figures].map(([name, { unit, rounds, goal }]) => ({ name, unit, rounds, ...(goal !== undefined && { goal }) }));
  }
}
