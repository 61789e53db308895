/** `demo`: everything in one process, driven by a real Celery application. */
import { ConfigError, exitWith, loadConfig, readSetting } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import type { Command } from "../command.ts";
import { DEMO_DATABASE_URL, withDefaultDatabase } from "../database.ts";
import { startCelery } from "../demo/celery.ts";
import { OWN_SETTINGS } from "../demo/demo-environment.ts";
import { runDemo } from "../demo/run-demo.ts";
import { startSimulator } from "../demo/simulator.ts";
import { ALL_ROLES } from "../roles.ts";
import { groupSettings, type SettingsGroup } from "../settings.ts";
import { UsageError } from "../usage-error.ts";

const Config = z.object({
  DEMO_CELERY_PYTHON: z.string().optional().describe("A Python that has Celery. Without it the demo simulates Celery's events."),
});

export const demo: Command = {
  name: "demo",
  summary: "Run everything on a real Celery application, and watch.",
  description:
    "Runs the receiver, the exporters and the dashboard in one process, with a real Celery worker and client to keep them busy, and shows what happens. " +
    "Metrics go to a port of its own unless an agent is configured, rows to a database in memory unless DATABASE_URL is set, which keeps them. On a broker with other applications it has queues of its own, " +
    "and leaves out their tasks. " +
    "`npm run demo` starts the servers it needs. Ctrl-C ends it.",
  options: [
    {
      name: "seconds",
      value: "n",
      description: "Stop after n seconds, and exit 0 only if what Celery ran, what Datadog got and what Postgres has agree.",
    },
    { name: "no-dashboard", description: "Run without the dashboard." },
  ],
  settings: [
    ...withoutSettings(withDefaultDatabase(groupSettings(ALL_ROLES), DEMO_DATABASE_URL), OWN_SETTINGS),
    ...groupSettings([{ name: "demo", Config }]),
  ],
  async run({ options, env, terminal }) {
    const { DEMO_CELERY_PYTHON: python } = loadConfig(Config, env);
    const brokerUrl = readSetting("CELERY_BROKER_URL", env) ?? "";
    if (brokerUrl === "") throw new ConfigError(["CELERY_BROKER_URL: is required. `npm run demo` starts a broker and sets it."]);
    const seconds = toSeconds(options.get("seconds"));
    const agrees = await runDemo({
      env,
      seconds,
      withDashboard: !options.has("no-dashboard"),
      terminal,
      startWorkload: (queuePrefix) =>
        python === undefined ? startSimulator(brokerUrl, queuePrefix) : startCelery({ python, brokerUrl, env, seconds, queuePrefix }),
    });
    exitWith(agrees ? 0 : 1);
  },
};

function withoutSettings(groups: readonly SettingsGroup[], names: ReadonlySet<string>): SettingsGroup[] {
  return groups
    .map(({ title, settings }) => ({ title, settings: settings.filter(({ name }) => !names.has(name)) }))
    .filter(({ settings }) => settings.length > 0);
}

function toSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (!(seconds > 0)) throw new UsageError(`--seconds needs a number above 0, not ${JSON.stringify(text)}.`);
  return seconds;
}
