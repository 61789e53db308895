import { ConfigError, loadConfig, redactConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { Config } from "../src/config.ts";

function problemsOf(env: Environment): readonly string[] {
  try {
    loadConfig(Config, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe("the dashboard's settings", () => {
  it("need nothing on loopback", () => {
    expect(loadConfig(Config, {})).toMatchObject({
      DASHBOARD_HOST: "127.0.0.1",
      DASHBOARD_PORT: 3000,
      DASHBOARD_READ_ONLY: true,
      DASHBOARD_SHOW_TASK_DATA: false,
    });
  });

  it.each(["0.0.0.0", "::", "10.1.2.3", "dashboard.internal"])("need credentials on %s", (host) => {
    expect(problemsOf({ DASHBOARD_HOST: host })).toEqual([
      expect.stringContaining("DASHBOARD_USERNAME and DASHBOARD_PASSWORD are required"),
    ]);
    expect(problemsOf({ DASHBOARD_HOST: host, DASHBOARD_USERNAME: "ops", DASHBOARD_PASSWORD: "hunter2" })).toEqual([]);
  });

  it("report missing credentials together with every other problem", () => {
    expect(problemsOf({ DASHBOARD_HOST: "0.0.0.0", DASHBOARD_PORT: "abc" })).toEqual([
      expect.stringMatching(/^DASHBOARD_PORT: /),
      expect.stringMatching(/^DASHBOARD_HOST: /),
    ]);
  });

  it("need user name and password together", () => {
    expect(problemsOf({ DASHBOARD_USERNAME: "ops" })).toEqual([expect.stringContaining("DASHBOARD_PASSWORD: is required")]);
    expect(problemsOf({ DASHBOARD_PASSWORD: "hunter2" })).toEqual([
      expect.stringMatching(/^DASHBOARD_USERNAME: is required((?!hunter2).)*$/),
    ]);
  });

  it("never show the password", () => {
    const config = loadConfig(Config, { DASHBOARD_USERNAME: "ops", DASHBOARD_PASSWORD: "hunter2" });
    expect(JSON.stringify(redactConfig(Config, config))).not.toContain("hunter2");
  });
});
