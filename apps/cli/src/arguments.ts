/** Parses the command line: one command, its options, and its settings, each of which is also an option. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import { parseArgs } from "node:util";
import { UsageError, type Command, type CommandOption, type Invocation } from "./command.ts";
import { ALIASES, toOption } from "./settings.ts";

/** Shows help and does nothing else. */
export const HELP_OPTION: CommandOption = { name: "help", description: "Show this." };

/**
 * The options of `command` in `args`, including its settings, and the environment overridden by these settings.
 *
 * @throws {UsageError} if an option is unknown or lacks its value, or if the command does not take an argument that was given.
 */
export function readArguments(command: Command, args: readonly string[], env: Environment): Omit<Invocation, "terminal"> {
  const settings = settingsByOption(command);
  const own = new Map([...command.options, HELP_OPTION].map((option) => [option.name, option]));
  const takesValue = (name: string): boolean => settings.has(name) || own.get(name)?.value !== undefined;
  const names = [...own.keys(), ...settings.keys()];
  const { tokens } = parseArgs({
    // pnpm passes the `--` of `pnpm start -- --option` through.
    args: args[0] === "--" ? args.slice(1) : [...args],
    options: Object.fromEntries(names.map((name) => [name, { type: takesValue(name) ? "string" : "boolean" } as const])),
    strict: false,
    tokens: true,
  });
  const options = new Map<string, string>();
  const overlay: Record<string, string> = {};
  let argument: string | undefined;
  for (const token of tokens) {
    if (token.kind === "positional" && command.argument !== undefined && argument === undefined) {
      argument = token.value;
      continue;
    }
    if (token.kind !== "option")
      throw new UsageError(
        `${command.name} takes no ${command.argument === undefined ? "" : "further "}argument ${JSON.stringify(argumentOf(token))}.`,
      );
    const { name, rawName, value } = token;
    if (!names.includes(name) || !rawName.startsWith("--"))
      throw new UsageError(
        unknown(
          "option",
          rawName,
          names.map((known) => `--${known}`),
        ),
      );
    if (takesValue(name) && value === undefined) throw new UsageError(`--${name} needs a value.`);
    if (!takesValue(name) && value !== undefined) throw new UsageError(`--${name} takes no value.`);
    const setting = settings.get(name);
    if (setting === undefined) options.set(name, value ?? "");
    else overlay[setting] = value ?? "";
  }
  return { ...(argument === undefined ? {} : { argument }), options, settings: overlay, environment: env, env: { ...env, ...overlay } };
}

/** Says what is wrong with a word, and suggests the word that was probably meant. */
export function unknown(kind: string, word: string, known: readonly string[]): string {
  const meant = suggest(word, known);
  return `Unknown ${kind} ${JSON.stringify(word)}.${meant === undefined ? "" : ` Did you mean ${JSON.stringify(meant)}?`}`;
}

function settingsByOption(command: Command): Map<string, string> {
  const settings = new Map(command.settings.flatMap((group) => group.settings.map(({ name }) => [toOption(name), name] as const)));
  const names = new Set(settings.values());
  for (const [alias, name] of Object.entries(ALIASES)) if (names.has(name)) settings.set(alias, name);
  return settings;
}

function argumentOf(token: { kind: string; value?: string | undefined }): string {
  return token.value ?? "--";
}

/** The word that a mistyped word probably meant: the candidate with the fewest edits, up to two or a third of the word's length. */
export function suggest(word: string, candidates: readonly string[]): string | undefined {
  let best: { candidate: string; edits: number } | undefined;
  for (const candidate of candidates) {
    const edits = editDistance(word, candidate);
    if (edits <= Math.max(2, Math.floor(word.length / 3)) && edits < (best?.edits ?? Infinity)) best = { candidate, edits };
  }
  return best?.candidate;
}

/** Levenshtein distance. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [line, character] of Array.from(from).entries()) {
    const next = [line + 1];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (character === to[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
