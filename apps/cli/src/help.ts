/** Generates the text of `--help` from the commands and their settings. */
import type { SettingDescription } from "@celery-metrics-exporter/runtime";
import { HELP_OPTION } from "./arguments.ts";
import { PROGRAM, callOf, type Command, type CommandOption } from "./command.ts";
import { DECIDED_DEFAULTS } from "./defaults/shown-defaults.ts";
import { exporters } from "./exporters.ts";
import { ALIASES, descriptionOf, toOption } from "./settings.ts";

const SETTINGS_NOTE =
  "Each setting is an environment variable and an option: LOG_LEVEL is --log-level, and the option takes precedence. NAME_FILE may name a file that contains the value of NAME. " +
  "Other users of the machine can see options in the process list: put passwords into variables or files.";

/** Sets the password in a variable: other users of the machine can see options. */
const EXAMPLE = `Example:
  export CELERY_BROKER_URL=amqp://user:password@rabbitmq.example.com:5672//
  celery-metrics-exporter start           # in a checkout: pnpm start`;

/** The settings to know first, with the defaults of the single process. */
const FIRST_SETTINGS: readonly { readonly name: string; readonly description: string }[] = [
  { name: "CELERY_BROKER_URL", description: "The broker URL that your Celery workers use. Required." },
  { name: "REDIS_URL", description: `Redis for the exporter queues. Default: ${DECIDED_DEFAULTS["REDIS_URL"]}` },
  { name: "DATABASE_URL", description: "PostgreSQL for the rows. Default: an embedded one in ./.data/pglite" },
  { name: "EXPORTERS", description: `Comma-separated: ${[...exporters.keys()].join(", ")}. Default: ${DECIDED_DEFAULTS["EXPORTERS"]}` },
  { name: "DD_AGENT_HOST", description: "Host of the Datadog agent. Default: 127.0.0.1" },
];

/** Help of the whole program. */
export function programHelp(commands: readonly Command[], width: number): string {
  const longest = Math.max(...commands.map(({ name }) => name.length));
  return [
    "Turns Celery's task events from RabbitMQ or Redis into metrics and rows.",
    ...firstSteps(width),
    `Usage: ${PROGRAM} <command> [options]`,
    [
      "Commands:",
      ...commands.map(({ name, summary }) => wrap(`${name.padEnd(longest)}  ${summary}`, width, { indent: 2, hang: longest + 4 })),
    ].join("\n"),
    `Options:\n  --help     ${HELP_OPTION.description}\n  --version  Show the version.`,
    wrap(`${PROGRAM} <command> --help shows a command's options and all of its settings.`, width),
  ].join("\n\n");
}

/** An example and the most important settings. */
function firstSteps(width: number): string[] {
  const longest = Math.max(...FIRST_SETTINGS.map(({ name }) => name.length));
  const settings = FIRST_SETTINGS.map(({ name, description }) =>
    wrap(`${name.padEnd(longest)}  ${description}`, width, { indent: 2, hang: longest + 4 }),
  );
  return [EXAMPLE, ["Environment variables to know first:", ...settings].join("\n")];
}

/** Help of one command: every option, and every setting with its default. */
export function commandHelp(command: Command, width: number): string {
  const sections = [
    ...(command.startsWithExample === true ? [wrap(command.summary, width), ...firstSteps(width)] : []),
    wrap(command.description ?? command.summary, width),
    `Usage: ${callOf(command)} [options]${command.argument === undefined ? "" : ` [${command.argument}]`}`,
  ];
  sections.push(["Options:", ...[...command.options, HELP_OPTION].map((option) => optionHelp(option, width))].join("\n"));
  if (command.settings.length > 0) sections.push(wrap(SETTINGS_NOTE, width));
  for (const { title, settings } of command.settings) {
    sections.push([`Settings of ${title}:`, ...settings.map((setting) => settingHelp(setting, width))].join("\n"));
  }
  return sections.join("\n\n");
}

function optionHelp({ name, value, description }: CommandOption, width: number): string {
  return `  --${name}${value === undefined ? "" : ` <${value}>`}\n${wrap(description, width, { indent: 6 })}`;
}

function settingHelp(setting: SettingDescription, width: number): string {
  const { name, defaultValue, required } = setting;
  const alias = Object.entries(ALIASES).find(([, known]) => known === name)?.[0];
  const options = [...(alias === undefined ? [] : [alias]), toOption(name)].map((option) => `--${option}`).join(", ");
  const state = required ? " Required." : defaultValue === undefined || defaultValue === "" ? "" : ` Default: ${defaultValue}`;
  return `  ${options} <value>\n${wrap(descriptionOf(setting) + state, width, { indent: 6 })}`;
}

/** Breaks lines at spaces; `hang` indents every line after the first. */
function wrap(text: string, width: number, { indent = 0, hang = indent }: { indent?: number; hang?: number } = {}): string {
  const lines = [" ".repeat(indent)];
  let isFirstWord = true;
  for (const word of text.split(/(?<=\S) (?=\S)/)) {
    const line = lines.at(-1) ?? "";
    if (isFirstWord) lines[lines.length - 1] = line + word;
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(" ".repeat(hang) + word);
    isFirstWord = false;
  }
  return lines.join("\n");
}
