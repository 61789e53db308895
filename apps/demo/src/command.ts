/** The demo's command line: everything in one process, driven by a real Celery application. */
import { ConfigError, exitWith, loadConfig, readSetting, type Environment } from "@celery-metrics-exporter/runtime";
import {
  AGENT_SETTINGS,
  ALL_ROLES,
  UsageError,
  groupSettings,
  readArguments,
  runAlone,
  withDecidedDefaults,
  type Command,
  type Invocation,
  type SettingsGroup,
} from "cli";
import { z } from "zod";
import { startCelery } from "./celery.ts";
import { DEMO_DATABASE_URL, OWN_SETTINGS, bareEnvironment } from "./environment.ts";
import { runDemo } from "./run.ts";
import { startSimulator } from "./simulator.ts";

const Config = z.object({
  DEMO_CELERY_PYTHON: z.string().optional().describe("A Python with Celery installed. Without it the demo simulates Celery's events."),
});

const demo: Command = {
  name: "demo",
  called: "npm run demo --",
  summary: "Run everything with a real Celery application, and watch it.",
  description:
    "Runs the receiver, the exporters, the dashboard and the web page in one process, together with a real Celery worker and client, and shows what happens. " +
    "`npm run demo` starts the servers that it needs. Metrics go to its own port, rows to a database in memory. " +
    "It ignores settings in the environment, unless you pass --use-environment: then the servers named there get the demo's tasks, metrics and rows. " +
    "Even there it uses its own queues and ignores the tasks of other applications. Press Ctrl-C to stop it.",
  options: [
    {
      name: "seconds",
      value: "n",
      description: "Stop after n seconds, and exit with 0 only if the counts of Celery, Datadog, Postgres and Prometheus agree.",
    },
    { name: "no-dashboard", description: "Run without the dashboard." },
    { name: "no-web", description: "Run without the web page." },
    {
      name: "use-environment",
      description: "Use the settings in the environment, such as DATABASE_URL, REDIS_URL and CELERY_BROKER_URL.",
    },
  ],
  settings: [
    ...withoutSettings(withDecidedDefaults(groupSettings(ALL_ROLES), { DATABASE_URL: DEMO_DATABASE_URL }), OWN_SETTINGS),
    ...groupSettings([{ name: "demo", Config }]),
  ],
  async run(invocation) {
    const { options, terminal } = invocation;
    const seconds = toSeconds(options.get("seconds"));
    const { DEMO_CELERY_PYTHON: python } = loadConfig(Config, invocation.env);
    const env = environmentOf(invocation);
    const brokerUrl = readSetting("CELERY_BROKER_URL", env) ?? "";
    if (brokerUrl === "")
      throw new ConfigError([
        "CELERY_BROKER_URL: is required. `npm run demo` starts a broker; --use-environment uses the one in your environment.",
      ]);
    const agrees = await runDemo({
      env,
      seconds,
      withDashboard: !options.has("no-dashboard"),
      withWeb: !options.has("no-web"),
      terminal,
      startWorkload: (queuePrefix) =>
        python === undefined ? startSimulator(brokerUrl, queuePrefix) : startCelery({ python, brokerUrl, env, seconds, queuePrefix }),
    });
    exitWith(agrees ? 0 : 1);
  },
};

/** Runs the demo, and exits with its exit code. */
export function runDemoCommand(args: readonly string[], env: Environment): Promise<void> {
  return runAlone(demo, args, env);
}

/** Whether the demo would accept these arguments. Call it before starting servers for the demo, which reports itself what is wrong. */
export function acceptsDemoArguments(args: readonly string[]): boolean {
  try {
    toSeconds(readArguments(demo, args, {}).options.get("seconds"));
    return true;
  } catch (thrown) {
    if (thrown instanceof UsageError) return false;
    throw thrown;
  }
}

const SERVERS = ["CELERY_BROKER_URL", "REDIS_URL", "DATABASE_URL", ...AGENT_SETTINGS];

/** The demo's settings: those given as options, and the environment's only on request, because it may name production servers. */
function environmentOf({ options, settings, environment, env, terminal }: Invocation): Environment {
  if (options.has("use-environment")) return env;
  const ignored = SERVERS.flatMap((name) => [name, `${name}_FILE`]).filter((name) => (environment[name] ?? "") !== "");
  if (ignored.length > 0) terminal.write(`Ignoring ${ignored.join(", ")} in the environment (--use-environment uses them).\n`);
  return { ...bareEnvironment(environment), ...settings };
}

function withoutSettings(groups: readonly SettingsGroup[], names: ReadonlySet<string>): SettingsGroup[] {
  return groups
    .map(({ title, settings }) => ({ title, settings: settings.filter(({ name }) => !names.has(name)) }))
    .filter(({ settings }) => settings.length > 0);
}

function toSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (!(seconds > 0)) throw new UsageError(`--seconds requires a number above 0, not ${JSON.stringify(text)}.`);
  return seconds;
}
