/** Reads the permissions from the code blocks of docs/permissions.md: tests run with exactly these, so that the document stays right. */
import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";

const DOCUMENT = new URL("../../../../docs/permissions.md", import.meta.url);

/** RabbitMQ's three regular expressions. */
export interface RabbitmqPermissions {
  readonly configure: string;
  readonly write: string;
  readonly read: string;
}

/**
 * The lines of one code block, without comments.
 *
 * @param name the text after its opening fence, such as `redis receiver`.
 */
function documentedLines(name: string): string[] {
  const block = new RegExp(`^\`\`\`${name}\\n(.*?)^\`\`\``, "ms").exec(readFileSync(DOCUMENT, "utf8"))?.[1];
  if (block === undefined) throw new Error(`docs/permissions.md has no block "${name}"`);
  return block.split("\n").filter((line) => line !== "" && !/^(#|--)/.test(line));
}

/** The statements of an SQL block. */
export function documentedStatements(name: string): string[] {
  return documentedLines(name)
    .join("\n")
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}

export function documentedRabbitmqPermissions(name: string): RabbitmqPermissions {
  const [line = ""] = documentedLines(name).filter((text) => text.includes("set_permissions"));
  const [, configure = "", write = "", read = ""] = /"(.*?)" "(.*?)" "(.*?)"$/.exec(line) ?? [];
  return { configure, write, read };
}

/** Creates the Redis user of a block, with the name in the document. */
export async function grantDocumented(admin: Redis, name: string, password: string): Promise<void> {
  for (const line of documentedLines(name)) {
    const [command = "", ...words] = line.replace("PASSWORD", password).split(" ");
    await admin.call(command, ...words);
  }
}

/** The commands that a block grants. */
export function documentedCommands(name: string): Set<string> {
  return new Set(documentedLines(name).flatMap((line) => line.split(" ").flatMap((word) => (word.startsWith("+") ? [word.slice(1)] : []))));
}
