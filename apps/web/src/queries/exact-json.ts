/** JSON from the database that becomes a part of an answer without being parsed, so that numbers keep all their digits. */
import { randomUUID } from "node:crypto";

export class ExactJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toJSON(): string {
    return `${MARK}${written.push(this.text) - 1}`;
  }
}

/** No text of an answer can contain it by chance or on purpose. */
const MARK = `exact-json:${randomUUID()}:`;
const MARKED = new RegExp(`"${MARK}(\\d+)"`, "g");
/** The texts of the values that are being written. */
let written: string[] = [];

/** `JSON.stringify`, in which each `ExactJson` is its text. */
export function stringify(value: unknown): string {
  const texts: string[] = [];
  written = texts;
  const json = JSON.stringify(value);
  return texts.length === 0 ? json : json.replace(MARKED, (_mark, index: string) => texts[Number(index)] ?? "null");
}
