import { processorRole } from "@celery-metrics-exporter/pipeline";
import { createTestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { ConfigError, describeConfig, loadConfig, reportAliases } from "@celery-metrics-exporter/runtime";
import { certificate } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import { Config } from "../src/config.ts";
import { prometheus } from "../src/prometheus.ts";
import { PrometheusHarness } from "./prometheus-harness.ts";

/** The names of the settings at fault. */
function problems(env: Readonly<Record<string, string>>): string[] {
  const { success, error } = Config.safeParse({ REDIS_URL: "redis://127.0.0.1:6379", ...env });
  return success ? [] : error.issues.map(({ path, message }) => `${path.join()} ${message}`);
}

function load(env: Readonly<Record<string, string>>): Config {
  return loadConfig(Config, env);
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

  it.each(["PROMETHEUS_TLS_CERT", "PROMETHEUS_TLS_KEY"])("refuse %s alone also together with the settings of every processor", (name) => {
    const env = { REDIS_URL: "redis://127.0.0.1:6379", [name]: certificate("server") };
    expect(() => loadConfig(processorRole(prometheus).Config, env)).toThrow("are required together");
  });

  it("refuse files that are not a certificate and its key", async () => {
    const env = {
      REDIS_URL: "redis://127.0.0.1:1",
      PROMETHEUS_TLS_CERT: certificate("server"),
      PROMETHEUS_TLS_KEY: certificate("client-key"),
    };
    await expect(createTestExporter(prometheus, env)).rejects.toThrow("are not a certificate and its key");
  });

  it("refuse a metric prefix that Prometheus would, and a short token", () => {
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "1a" })).toHaveLength(1);
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "a-b" })).toHaveLength(1);
    expect(problems({ PROMETHEUS_METRIC_PREFIX: "" })).toEqual([]);
    expect(problems({ PROMETHEUS_BEARER_TOKEN: "short" })).toHaveLength(1);
  });
});

describe("celery-exporter's variables", () => {
  it("set the settings that they stand for", () => {
    const env = {
      CE_HOST: "0.0.0.0",
      CE_PORT: "9999",
      CE_BUCKETS: "0.5, 1,2.5,inf",
      CE_QUEUE_WAIT_BUCKETS: "1,10.0,+Inf",
      CE_WORKER_TIMEOUT: "60",
      CE_PURGE_OFFLINE_WORKER_METRICS: "600",
      CE_METRIC_PREFIX: "shop_",
      CE_DEFAULT_QUEUE_NAME: "default",
      CE_STATIC_LABEL: " env=prod  region=eu=1\ttier= ",
      CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC: "False",
    };
    expect(load(env)).toMatchObject({
      PROMETHEUS_HOST: "0.0.0.0",
      PROMETHEUS_PORT: 9_999,
      PROMETHEUS_BUCKETS: [0.5, 1, 2.5],
      PROMETHEUS_QUEUE_WAIT_BUCKETS: [1, 10],
      PROMETHEUS_WORKER_TIMEOUT_SECONDS: 60,
      PROMETHEUS_WORKER_PURGE_SECONDS: 600,
      PROMETHEUS_METRIC_PREFIX: "shop_",
      PROMETHEUS_DEFAULT_QUEUE: "default",
      PROMETHEUS_STATIC_LABELS: { env: "prod", region: "eu=1", tier: "" },
      PROMETHEUS_HOSTNAME_LABEL: "host",
    });
    const { used, warnings } = reportAliases(describeConfig(Config), env);
    expect(used.map(({ alias }) => alias).toSorted()).toEqual(Object.keys(env).toSorted());
    expect(warnings).toEqual([]);
  });

  it("say never with 0, which is the longest time here", () => {
    const config = load({ CE_WORKER_TIMEOUT: "0", CE_PURGE_OFFLINE_WORKER_METRICS: "0" });
    expect(config.PROMETHEUS_WORKER_TIMEOUT_SECONDS).toBe(7 * 86_400);
    expect(config.PROMETHEUS_WORKER_PURGE_SECONDS).toBe(3_650 * 86_400);
  });

  it.each(["1", "TRUE", "t", "yes", "Y", " on "])("take %j for true", (value) => {
    expect(load({ CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC: value }).PROMETHEUS_HOSTNAME_LABEL).toBe("generic");
  });

  it.each([
    [{ CE_STATIC_LABEL: "env=a,b" }, "CE_STATIC_LABEL: must not contain a comma"],
    [{ CE_STATIC_LABEL: "env" }, "it is set by CE_STATIC_LABEL"],
    [{ CE_BUCKETS: "2,1" }, "it is set by CE_BUCKETS"],
    [{ CE_BUCKETS: "inf" }, "PROMETHEUS_BUCKETS: must be up to 40 rising numbers"],
    [{ CE_WORKER_TIMEOUT: "-1" }, "it is set by CE_WORKER_TIMEOUT"],
    [{ CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC: "maybe" }, "CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC: must be true or false"],
  ])("refuse %j", (env, message) => {
    expect(() => load(env)).toThrow(message);
  });

  it("say what is always so here", () => {
    const { used, warnings } = reportAliases(describeConfig(Config), { CE_GENERIC_HOSTNAME_TASK_SENT_METRIC: "true" });
    expect(used).toEqual([]);
    expect(warnings).toEqual([
      { setting: "CE_GENERIC_HOSTNAME_TASK_SENT_METRIC", problem: "the label hostname of celery_task_sent_total is always generic" },
    ]);
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
