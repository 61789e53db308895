import { ConfigError, type Environment } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { runCommand } from "../src/program.ts";
import { ALL_ROLES } from "../src/roles.ts";
import { toOption } from "../src/settings.ts";
import { UsageError } from "../src/command.ts";
import { runProgram } from "./harness.ts";

const BROKER = { CELERY_BROKER_URL: "amqp://user:hunter2@localhost//" };

/** The output of a command that runs in this process. */
async function outputOf(args: readonly string[], env: Environment = {}): Promise<string> {
  let output = "";
  const plain = { isInteractive: false, columns: 100, bold: String, dim: String, green: String, red: String, yellow: String };
  await runCommand(args, env, { ...plain, write: (text) => void (output += text) });
  return output;
}

async function problemsOf(args: readonly string[], env: Environment): Promise<readonly string[]> {
  const error = await outputOf(args, env).then(String, (thrown: unknown) => thrown);
  if (!(error instanceof ConfigError)) throw new Error(`no ConfigError: ${String(error)}`);
  return error.problems;
}

describe("the program", () => {
  it("shows its commands and its version", async () => {
    const help = await outputOf(["--help"]);
    for (const command of ["start", "query", "migrate", "replay", "user"]) expect(help).toMatch(new RegExp(`^  ${command} `, "m"));
    expect(await outputOf(["--version"])).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([["--help"], ["start", "--help"]])("starts its help with an example and the settings to know first: %s %s", async (...args) => {
    const [summary = "", example = "", settings = ""] = (await outputOf(args)).split("\n\n");
    expect(summary.split("\n")).toHaveLength(1);
    expect(example).toContain("export CELERY_BROKER_URL=amqp://user:password@");
    // Other users can see passwords in options in the process list.
    expect(example).not.toMatch(/ --\w/);
    expect(settings.match(/^  [A-Z_]+/gm)?.map((name) => name.trim())).toEqual([
      "CELERY_BROKER_URL",
      "REDIS_URL",
      "DATABASE_URL",
      "EXPORTERS",
      "DD_AGENT_HOST",
    ]);
  });

  it("shows every setting of every role as an option of start", async () => {
    const help = await outputOf(["start", "--help"]);
    const settings = new Set(ALL_ROLES.flatMap((role) => Object.keys(role.Config.shape)));
    expect(settings.size).toBeGreaterThan(40);
    expect([...settings].filter((setting) => !help.includes(`--${toOption(setting)} <value>`))).toEqual([]);
    expect(help.split("\n").filter((line) => line.length > 100)).toEqual([]);
  });

  it.each([
    [[], "A command is required."],
    [["strat"], 'Unknown command "strat". Did you mean "start"?'],
    [["--hepl"], 'Unknown option "--hepl". Did you mean "--help"?'],
    [["start", "--brokr", "x"], 'Unknown option "--brokr". Did you mean "--broker"?'],
  ])("refuses %j, with a suggestion", async (args, message) => {
    await expect(outputOf(args, BROKER)).rejects.toThrow(new UsageError(message));
  });

  it.each([
    [64, ["strat"], "Unknown command"],
    [64, ["start", "--excporters", "x"], 'Did you mean "--exporters"? See celery-metrics-exporter start --help. [ERR_USAGE]'],
    [78, ["start"], "- CELERY_BROKER_URL: is required."],
    [
      69,
      [
        "start",
        "--broker",
        "amqp://localhost//",
        "--redis",
        "redis://127.0.0.1:9",
        "--startup-timeout-seconds",
        "1",
        "--exporters",
        "datadog",
      ],
      "[ERR_UNAVAILABLE]",
    ],
  ])("exits %i after %j", async (exitCode, args, message) => {
    const run = await runProgram(args);
    expect(run).toMatchObject({ exitCode, errors: expect.stringContaining(message) as string });
  });
});

describe("start", () => {
  it("reports every problem of every role by name, and no secret", async () => {
    const args = ["start", "--datadog-grace-ms", "soon", "--health-port", "70000", "--database", "mysql://user:hunter2@localhost/db"];
    const problems = await problemsOf(args, { ...BROKER, DASHBOARD_HOST: "0.0.0.0" });
    expect(problems.map((problem) => problem.split(":")[0]).toSorted()).toEqual([
      "DASHBOARD_HOST",
      "DATABASE_URL",
      "DATADOG_GRACE_MS",
      "HEALTH_PORT",
    ]);
    expect(problems.join()).not.toContain("hunter2");
  });

  it("refuses an unknown exporter, and names the known ones", async () => {
    expect(await problemsOf(["start", "--exporters", "datadog,promtail"], BROKER)).toEqual([
      expect.stringMatching(/^EXPORTERS: .*promtail.*datadog, postgres/),
    ]);
    const others = { ...BROKER, PROMETHEUS_PORT: "many", WEB_PORT: "many", DATADOG_GRACE_MS: "soon" };
    const problems = await problemsOf(["start", "--exporters", "promtail"], others);
    expect(problems.map((problem) => problem.split(":")[0]).toSorted()).toEqual([
      "DATADOG_GRACE_MS",
      "EXPORTERS",
      "PROMETHEUS_PORT",
      "WEB_PORT",
    ]);
  });

  it("configures only the roles of the chosen exporters", async () => {
    const env = { ...BROKER, DATADOG_GRACE_MS: "soon", DASHBOARD_PORT: "many" };
    expect(await outputOf(["start", "--exporters", "postgres", "--no-dashboard", "--check-config"], env)).toBe("The settings are valid.\n");
    expect(await problemsOf(["start", "--exporters", "postgres", "--check-config"], env)).toEqual([
      expect.stringContaining("DASHBOARD_PORT"),
    ]);
    const withDatadog = { ...env, EXPORTERS: "datadog,postgres" };
    expect(await problemsOf(["start", "--no-dashboard", "--check-config"], withDatadog)).toEqual([
      expect.stringContaining("DATADOG_GRACE_MS"),
    ]);
  });

  it("warns about variables that are not settings, and does not refuse them", async () => {
    const output = await outputOf(["start", "--exporters", "postgres", "--check-config"], {
      ...BROKER,
      FILTER_TASK_NAME_EXCLUDE: "hunter2",
    });
    expect(output).toContain("Warning: FILTER_TASK_NAME_EXCLUDE: is not a setting and is ignored; did you mean FILTER_TASK_NAMES_EXCLUDE?");
    expect(output).not.toContain("hunter2");
  });

  it("warns about unknown settings in the broker's URL once", async () => {
    const env = { CELERY_BROKER_URL: "redis://:hunter2@localhost/0?ssl_cert_req=none&visibility_timeout=5", EXPORTERS: "datadog" };
    const output = await outputOf(["start", "--check-config"], env);
    expect(output).toBe(
      "Warning: CELERY_BROKER_URL: the unknown setting ssl_cert_req is ignored: did you mean ssl_cert_reqs?\nThe settings are valid.\n",
    );
  });

  it("shows the chosen defaults in its help", async () => {
    const help = (await outputOf(["start", "--help"])).replaceAll(/\s+/g, " ");
    expect(help).not.toMatch(/Default: datadog,postgres|Default: redis:/);
    expect(help).toContain("Default: postgres,prometheus, and datadog if an agent is configured or answers --");
    expect(help).toContain("Default: the broker, if it is a Redis; with RabbitMQ redis://127.0.0.1:6379 --");
  });

  it("prints the settings in use, options over variables, secrets masked", async () => {
    const env = { ...BROKER, EXPORTERS: "datadog,postgres", LOG_LEVEL: "warn", DASHBOARD_USERNAME: "ops", DASHBOARD_PASSWORD: "hunter2" };
    const output = await outputOf(["start", "--log-level", "debug", "--print-config"], env);
    const lines = output.split("\n");
    for (const line of [
      "LOG_LEVEL=debug",
      "CELERY_BROKER_URL=amqp://***@localhost//",
      "EXPORTERS=datadog,postgres",
      "DASHBOARD_PASSWORD=[redacted]",
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines).toContain("# DD_DOGSTATSD_URL is not set");
    expect(output).not.toContain("hunter2");
  });

  it("reads celery-exporter's variables, and decides as if they were its own settings", async () => {
    const env = {
      CE_BROKER_URL: "redis://:hunter2@localhost/3",
      CE_PORT: "9999",
      CE_QUEUES: "mail,shop",
      CE_LOG_LEVEL: "WARNING",
      CE_RETRY_INTERVAL: "5",
      CE_BROKER_TRANSPORT_OPTION: "sentinel_password=hunter2",
      CE_BROKER_SSL_OPTION: "ca_certs=/ca.pem",
      CE_ACCEPT_CONTENT: "json,msgpack",
      EXPORTERS: "prometheus",
    };
    const printed = await outputOf(["start", "--prometheus-buckets", "1,2", "--print-config"], { ...env, CE_BUCKETS: "3" });
    for (const line of [
      "CELERY_BROKER_URL=redis://***@localhost/3",
      "REDIS_URL=redis://***@localhost/3",
      "PROMETHEUS_PORT=9999",
      "PROMETHEUS_BUCKETS=1,2",
      "MONITOR_QUEUES=mail,shop",
      "LOG_LEVEL=warn",
    ]) {
      expect(printed.split("\n")).toContain(line);
    }
    const checked = await outputOf(["start", "--check-config"], { ...env, PROMETHEUS_PORT: "1", PROMETHEUS_HOST: "h", CE_HOST: "h" });
    const lines = checked.split("\n");
    for (const line of [
      "CE_BROKER_URL is read as CELERY_BROKER_URL.",
      "CE_QUEUES is read as MONITOR_QUEUES.",
      "CE_LOG_LEVEL is read as LOG_LEVEL.",
      "Warning: CE_PORT: is ignored, because PROMETHEUS_PORT is set too",
      expect.stringMatching(/^Warning: CE_RETRY_INTERVAL: it is not needed/) as string,
      expect.stringMatching(/^Warning: CE_BROKER_TRANSPORT_OPTION: set CELERY_GLOBAL_KEYPREFIX/) as string,
      expect.stringMatching(/^Warning: CE_BROKER_SSL_OPTION: write these options into CELERY_BROKER_URL/) as string,
      expect.stringMatching(/^Warning: CE_ACCEPT_CONTENT: it is not needed/) as string,
    ]) {
      expect(lines).toContainEqual(line);
    }
    expect(new Set(lines).size, "each once").toBe(lines.length);
    expect(printed + checked).not.toContain("hunter2");
    expect(await problemsOf(["start", "--check-config"], { ...env, CE_PORT: "many" })).toEqual([
      'PROMETHEUS_PORT: must be a number (got "many"); it is set by CE_PORT',
    ]);
  });
});

describe("user", () => {
  it("makes an entry for WEB_USERS with the hash of a new password, or of the one in WEB_PASSWORD", async () => {
    const made = await outputOf(["user", "ann"], {});
    expect(made).toMatch(/^Password: [\w-]{24}\n\nFor WEB_USERS:\nann:reader:scrypt\$16384\$8\$1\$[\w-]+\$[\w-]+\n$/);
    const given = await outputOf(["user", "ann", "--role", "viewer"], { WEB_PASSWORD: "hunter2" });
    expect(given).toMatch(/^For WEB_USERS:\nann:viewer:scrypt\$/);
    expect(given).not.toContain("hunter2");
  });

  it("makes an entry for WEB_TOKENS with the hash of a new token that expires", async () => {
    const day = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10);
    expect(await outputOf(["user", "ci", "--token", "--role", "operator", "--days", "30"], {})).toMatch(
      new RegExp(`^Token, until ${day}: cme_[\\w-]{43}\n\nFor WEB_TOKENS:\nci:operator:${day}:sha256\\$[\\w-]{43}\n$`),
    );
  });

  it.each([
    [["user"], "A name"],
    [["user", "a:b"], "A name"],
    [["user", "ann", "--role", "root"], "viewer, reader, operator, admin"],
    [["user", "ann", "--token", "--days", "0"], "from 1 to 3650"],
  ])("refuses %j", async (args, message) => {
    expect(await runProgram(args)).toMatchObject({ exitCode: 64, errors: expect.stringContaining(message) as string });
  });
});
