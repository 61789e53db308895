/**
 * What one task contributes to the counts: whole numbers by field, stored in the task's hash as text, so that the next change can add the difference.
 *
 *   <label set>.<code>=<number>;.<code>;…      the label set is omitted if it is that of the field before, and a number of 1 is omitted
 *
 * Numbers are in base 36. Without histograms of many attempts it is shorter than 64 bytes, so that the hash stays a listpack.
 */
import { readBase36, toBase36 } from "../facts/encoding.ts";

/**
 * Alternating fields and numbers. Each field occurs once, and no number is 0. Most tasks have seven fields, and even tasks with a thousand events have less
 * than a hundred. So searching the list takes less time than making a map for each task.
 */
export type Contribution = readonly (string | number)[];

export const NOTHING: Contribution = [];

/** Adds a number, which is not negative, to a field of a contribution. */
export function contribute(contribution: (string | number)[], field: string, by: number): void {
  if (by === 0) return;
  const at = contribution.indexOf(field);
  if (at === -1) contribution.push(field, by);
  else contribution[at + 1] = (contribution[at + 1] as number) + by;
}

export function writeContribution(contribution: Contribution): string {
  let text = "";
  /** With the dot. */
  let last = "";
  for (let at = 0; at < contribution.length; at += 2) {
    const field = contribution[at] as string;
    const number = contribution[at + 1] as number;
    const isSame = last !== "" && field.startsWith(last);
    if (!isSame) last = field.slice(0, field.indexOf(".") + 1);
    text += `${text === "" ? "" : ";"}${isSame ? field.slice(last.length - 1) : field}`;
    if (number !== 1) text += `=${toBase36(number)}`;
  }
  return text;
}

export function readContribution(text: string): Contribution {
  if (text === "") return NOTHING;
  const contribution: (string | number)[] = [];
  let last = "";
  for (const part of text.split(";")) {
    const equals = part.indexOf("=");
    const field = equals === -1 ? part : part.slice(0, equals);
    const dot = field.indexOf(".");
    if (dot > 0) last = field.slice(0, dot);
    const number = equals === -1 ? 1 : readBase36(part, equals + 1);
    // An earlier form had them. Redis would take "-0" for no number.
    if (number !== 0) contribution.push(`${last}${field.slice(dot)}`, number);
  }
  return contribution;
}

/** What to add to the counts, in the same form, with negative numbers too. */
export function difference(before: Contribution, after: Contribution): Contribution {
  // The usual case.
  if (before.length === 0) return after;
  const changed: (string | number)[] = [];
  for (let at = 0; at < after.length; at += 2) {
    const field = after[at] as string;
    const by = (after[at + 1] as number) - numberOf(field, before);
    if (by !== 0) changed.push(field, by);
  }
  for (let at = 0; at < before.length; at += 2) {
    const field = before[at] as string;
    if (!after.includes(field)) changed.push(field, -(before[at + 1] as number));
  }
  return changed;
}

function numberOf(field: string, contribution: Contribution): number {
  const at = contribution.indexOf(field);
  return at === -1 ? 0 : (contribution[at + 1] as number);
}
