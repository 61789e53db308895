import { ConfigError } from "@celery-metrics-exporter/runtime";
import { certificate } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import { Config } from "../src/config.ts";
import { PrometheusHarness } from "./prometheus-harness.ts";

/** The names of the settings at fault. */
function problems(env: Readonly<Record<string, string>>): string[] {
  const { success, error } = Config.safeParse({ REDIS_URL: "redis://127.0.0.1:6379", ...env });
  return success ? [] : error.issues.map(({ path, message }) => `${path.join()} ${message}`);
}

describe("settings", () => {
  it("have defaults", () => {
    expect(problems({})).toEqual([]);
  });

  it.each([
    "",
    "1,1",
    "2,1",
    "-1,2",
    "0,1",
    "a,b",
    "1,,2",
    "1e12",
    "NaN",
    "0.1,Infinity",
    Array.from({ length: 41 }, (_, n) => n + 1).join(),
  ])("refuse the buckets %j", (text) => {
    for (const name of ["PROMETHEUS_BUCKETS", "PROMETHEUS_QUEUE_WAIT_BUCKETS"]) {
      expect(problems({ [name]: text })).toEqual([`${name} must be up to 40 rising numbers of seconds, such as 0.1,1,10`]);
    }
  });

  it("accept 40 buckets", () => {
    expect(problems({ PROMETHEUS_BUCKETS: Array.from({ length: 40 }, (_, n) => (n + 1) / 8).join(", ") })).toEqual([]);
  });

  it.each(["env", "=prod", "1a=b", "__name__=x", "le=1", "queue_name=a", "a-b=c", "env=prod,name=x"])(
    "refuse the static labels %s",
    (text) => {
      expect(problems({ PROMETHEUS_STATIC_LABELS: text })).toEqual([expect.stringContaining("must be pairs such as env=prod")]);
    },
  );

  it("accept any value of a static label", () => {
    expect(
      Config.parse({ REDIS_URL: "redis://127.0.0.1:6379", PROMETHEUS_STATIC_LABELS: "env=a=b,region=" }).PROMETHEUS_STATIC_LABELS,
    ).toEqual({
      env: "a=b",
      region: "",
    });
  });

  it.each(["PROMETHEUS_TLS_CERT", "PROMETHEUS_TLS_KEY"])("refuse %s alone", (name) => {
    expect(problems({ [name]: certificate("server") })).toEqual([expect.stringContaining("are required together")]);
  });

  it("refuse a metric prefix that Prometheus would, and a short token", () => {
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "1a" })).toHaveLength(1);
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "a-b" })).toHaveLength(1);
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "" })).toEqual([]);
    expect(problems({ PROMETHEUS_BEARER_TOKEN: "short" })).toHaveLength(1);
  });
});

it("names a TLS file that cannot be read", async () => {
  const harness = await PrometheusHarness.start();
  try {
    const files = { PROMETHEUS_TLS_CERT: certificate("server"), PROMETHEUS_TLS_KEY: "/nowhere/key.pem" };
    await expect(harness.processor(files)).rejects.toThrow(ConfigError);
    await expect(harness.processor(files)).rejects.toThrow(
      "PROMETHEUS_TLS_KEY names a file that cannot be read (ENOENT): /nowhere/key.pem",
    );
  } finally {
    await harness.close();
  }
});
