import { namesAgent } from "cli";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { acceptsDemoArguments } from "../src/command.ts";
import { demoEnvironment } from "../src/environment.ts";

const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  writeFileSync(join(folder, name), `${text}\n`);
  return join(folder, name);
}

const NEEDS = { statsdPort: undefined, withDashboard: true, withWeb: true };

describe("the settings of a demo", () => {
  it("are the user's, even from files", async () => {
    const given = {
      DATADOG_METRIC_PREFIX_FILE: file("prefix", "live."),
      DASHBOARD_PORT_FILE: file("port", "4000"),
      WEB_PORT_FILE: file("web-port", "4001"),
      LOG_LEVEL_FILE: file("level", "debug"),
      DATABASE_URL_FILE: file("database", "postgres://localhost/live"),
    };
    const { env, metricPrefix, keepsRows } = await demoEnvironment(given, NEEDS);
    expect(env).toMatchObject(given);
    for (const name of ["DASHBOARD_PORT", "WEB_PORT", "LOG_LEVEL", "DATABASE_URL"]) expect(env).not.toHaveProperty(name);
    expect({ metricPrefix, keepsRows }).toEqual({ metricPrefix: "live.", keepsRows: true });
  });

  it("are its own if the user has none", async () => {
    const { env, metricPrefix, keepsRows } = await demoEnvironment({}, { ...NEEDS, statsdPort: 1234 });
    expect(env).toMatchObject({ LOG_LEVEL: "warn", DATABASE_URL: "pglite:memory", DD_DOGSTATSD_URL: "udp://127.0.0.1:1234" });
    expect({ metricPrefix, keepsRows }).toEqual({ metricPrefix: "celery.", keepsRows: false });
  });

  it.each([
    { DD_AGENT_HOST: "agent" },
    { DD_AGENT_HOST_FILE: "/run/secrets/host" },
    { DD_DOGSTATSD_URL_FILE: "/run/secrets/url" },
    { DD_DOGSTATSD_SOCKET: "/sockets/dsd" },
  ])("name an agent with %j", (env) => {
    expect(namesAgent(env)).toBe(true);
  });

  it("name none otherwise, and accept Datadog's own name for a socket", async () => {
    expect(namesAgent({ DD_AGENT_HOST: "", DATADOG_TAGS: "env:prod" })).toBe(false);
    expect((await demoEnvironment({ DD_DOGSTATSD_SOCKET: "/sockets/dsd" }, NEEDS)).env["DD_DOGSTATSD_URL"]).toBe("unix:///sockets/dsd");
  });
});

it.each([
  [["--secs", "3"], false],
  [["--seconds", "soon"], false],
  [["--seconds"], false],
  [["now"], false],
  [["--seconds", "3", "--no-dashboard", "--log-level", "debug"], true],
])("knows before anything is started whether it accepts %j", (args, accepted) => {
  expect(acceptsDemoArguments(args)).toBe(accepted);
});
