/** Text from tasks, as a terminal may show it: whoever can send a task could otherwise control the terminal. */

/** Control and format characters, such as the change of the direction of writing, and what is no character. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** With visible escapes: `\x1b`, `\n`, `\u202e`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) =>
    character === "\n" ? String.raw`\n` : character === "\t" ? String.raw`\t` : escapeOf(character),
  );
}

/** Each line as `printable`. */
export function printableLines(text: string): string[] {
  return text.trimEnd().split("\n").map(printable);
}

/** JSON on one line, in which every character that a terminal would obey is an escape of JSON. */
export function printableJson(json: string): string {
  // Outside of strings, JSON has no other control characters than these, and inside none.
  return json
    .replace(/[\t\r\n]/g, " ")
    .replace(UNSAFE, (character) =>
      Array.from({ length: character.length }, (_, index) => String.raw`\u${hex(character.charCodeAt(index), 4)}`).join(""),
    );
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? String.raw`\x${hex(code, 2)}` : String.raw`\u${hex(code, 4)}`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}
