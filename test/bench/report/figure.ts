/** A measured figure: one value per round, and its goal. */

export interface Figure {
  /** Name of the figure, such as `receiver, RabbitMQ, task.multi`. */
  readonly name: string;
  readonly unit: string;
  /** At least one. */
  readonly rounds: readonly number[];
  readonly goal?: Goal;
}

/** The goal: the median must be at most, or at least, this value. */
export type Goal = { readonly atMost: number } | { readonly atLeast: number };

/** Related figures, shown as one block of the table. */
export interface Section {
  readonly title: string;
  /** How it was measured, as far as readers need to know. */
  readonly note: string;
  readonly figures: readonly Figure[];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  const [low = Number.NaN, high = Number.NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** The least of the values that this share of them does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  return values.toSorted((one, other) => one - other)[Math.max(0, Math.ceil(values.length * share) - 1)] ?? Number.NaN;
}

/** Undefined if the figure has no goal. */
export function meetsGoal({ rounds, goal }: Figure): boolean | undefined {
  if (goal === undefined) return undefined;
  return "atMost" in goal ? median(rounds) <= goal.atMost : median(rounds) >= goal.atLeast;
}

export function describeGoal(goal: Goal): string {
  return "atMost" in goal ? `≤ ${formatNumber(goal.atMost)}` : `≥ ${formatNumber(goal.atLeast)}`;
}

/** Three significant digits, with separators for thousands. */
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

  /** In the order of their first addition. */
  figures(): Figure[] {
    return [...this.#figures].map(([name, { unit, rounds, goal }]) => ({ name, unit, rounds, ...(goal !== undefined && { goal }) }));
  }
}
