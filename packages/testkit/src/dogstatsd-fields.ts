/** What metrics, events and service checks of DogStatsD have in common: tags, timestamps, and how a line is refused. */

export class DogstatsdSyntaxError extends Error {
  override readonly name = "DogstatsdSyntaxError";
  readonly reason: string;
  readonly line: string;

  constructor(reason: string, line: string) {
    super(`${reason} in ${JSON.stringify(line)}`);
    this.reason = reason;
    this.line = line;
  }
}

/** Throws. Typed so that it can stand where a value is needed. */
export function refuse(reason: string, line: string): never {
  throw new DogstatsdSyntaxError(reason, line);
}

const MAX_TAG_CHARACTERS = 200;
/** Datadog's rule: a letter first. White space and control characters would be rewritten. */
const TAG = /^\p{L}[^\s\p{Cc}|,]*$/u;

/**
 * A list `key:value,key2:value2,key3`. A key may come again with another value, as Datadog allows.
 *
 * @throws {DogstatsdSyntaxError} for tags that are empty, repeated, too long, without the value after their colon, or badly spelt.
 */
export function parseTags(list: string, line: string): string[] {
  const tags = list.split(",");
  for (const tag of tags) {
    if (tag === "") refuse("empty tag", line);
    if (!TAG.test(tag)) refuse(`bad tag ${JSON.stringify(tag)}`, line);
    if (tag.endsWith(":")) refuse(`tag ${JSON.stringify(tag)} without a value`, line);
    if (tag.length > MAX_TAG_CHARACTERS) refuse("tag too long", line);
  }
  if (new Set(tags).size < tags.length) refuse("repeated tag", line);
  return tags;
}

/** Unix seconds, whole and positive. @throws {DogstatsdSyntaxError} */
export function parseTimestamp(text: string, line: string): number {
  return /^[1-9]\d*$/.test(text) ? Number(text) : refuse(`bad timestamp ${JSON.stringify(text)}`, line);
}
