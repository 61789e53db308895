/**
 * What one task contributes to the counts: whole numbers by field, stored in the task's hash as text, so that the next change can add the difference.
 *
 *   <label set>.<code>=<number>;.<code>;…      the label set is omitted if it is that of the field before, and a number of 1 is omitted
 *
 * Numbers are in base 36. Without histograms of many attempts it is shorter than 64 bytes, so that the hash stays a listpack.
 */
export type Contribution = ReadonlyMap<string, number>;

export const NOTHING: Contribution = new Map();

export function writeContribution(contribution: Contribution): string {
  let text = "";
  /** With the dot. */
  let last = "";
  for (const [field, number] of contribution) {
    const isSame = last !== "" && field.startsWith(last);
    if (!isSame) last = field.slice(0, field.indexOf(".") + 1);
    text += `${text === "" ? "" : ";"}${isSame ? field.slice(last.length - 1) : field}${number === 1 ? "" : `=${number.toString(36)}`}`;
  }
  return text;
}

export function readContribution(text: string): Contribution {
  if (text === "") return NOTHING;
  const contribution = new Map<string, number>();
  let last = "";
  for (const part of text.split(";")) {
    const equals = part.indexOf("=");
    const field = equals === -1 ? part : part.slice(0, equals);
    const dot = field.indexOf(".");
    if (dot > 0) last = field.slice(0, dot);
    contribution.set(`${last}${field.slice(dot)}`, equals === -1 ? 1 : Number.parseInt(part.slice(equals + 1), 36));
  }
  return contribution;
}

/** What to add to the counts: alternating fields and numbers. */
export function difference(before: Contribution, after: Contribution): (string | number)[] {
  const added: (string | number)[] = [];
  for (const [field, number] of after) {
    const by = number - (before.get(field) ?? 0);
    if (by !== 0) added.push(field, by);
  }
  for (const [field, number] of before) if (!after.has(field)) added.push(field, -number);
  return added;
}
