import { describeConfig, loadConfig } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { Config, controlOptions, redisQueueOptions, watched } from "../src/config.ts";

const load = (env: Record<string, string> = {}): Config => loadConfig(Config, { CELERY_BROKER_URL: "redis://:secret@host/1", ...env });

describe("the monitor's configuration", () => {
  it("has Celery's defaults", () => {
    expect(redisQueueOptions(load())).toEqual({
      keyPrefix: "",
      prioritySteps: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      prioritySeparator: "\u0006\u0016",
      unackedKey: "unacked",
      unackedIndexKey: "unacked_index",
    });
    expect(controlOptions(load())).toMatchObject({ controlExchange: "celery", serializer: "json", fanoutPrefix: true });
  });

  it.each([
    [{ CELERY_PRIORITY_STEPS: "0, 5" }, { prioritySteps: [0, 5] }],
    [{ CELERY_PRIORITY_SEPARATOR: ":" }, { prioritySeparator: ":" }],
    [{ CELERY_PRIORITY_SEPARATOR: "\u0006\u0016" }, { prioritySeparator: "\u0006\u0016" }],
    [{ CELERY_GLOBAL_KEYPREFIX: "shop:" }, { keyPrefix: "shop:" }],
  ])("turns %j into options", (env, options) => {
    expect(redisQueueOptions(load(env as Record<string, string>))).toMatchObject(options);
  });

  it.each([
    [{ CELERY_BROKER_URL: "" }, /CELERY_BROKER_URL: is required/],
    [{ CELERY_PRIORITY_STEPS: "low,high" }, /CELERY_PRIORITY_STEPS: must be whole numbers/],
    [{ MONITOR_INTERVAL_SECONDS: "0" }, /MONITOR_INTERVAL_SECONDS: must be at least 1/],
    [{ CELERY_CONTROL_SERIALIZER: "pickle" }, /CELERY_CONTROL_SERIALIZER: must be one of json, msgpack/],
  ])("refuses %j", (env, message) => {
    expect(() => load(env as Record<string, string>)).toThrow(message);
  });

  it("uses a list for replies that other deployments do not use", () => {
    const own = controlOptions(load()).deployment;
    expect(controlOptions(load({ CELERY_BROKER_URL: "redis://other/1" })).deployment).toBe(own);
    expect(controlOptions(load({ QUEUE_PREFIX: "{other}" })).deployment).not.toBe(own);
    expect(controlOptions(load({ REDIS_URL: "redis://other" })).deployment).not.toBe(own);
    expect(own).toMatch(/^cme-monitor-[\da-f]{8}$/);
  });

  it("names what it watches without a password", () => {
    expect(watched(load({ CELERY_GLOBAL_KEYPREFIX: "shop:" }))).toBe("redis://host:6379/1, exchange celery, prefix shop:");
  });

  it("takes celery-exporter's list of queues", () => {
    expect(load({ CE_QUEUES: "mail, shop" }).MONITOR_QUEUES).toEqual(["mail", "shop"]);
  });

  it("describes every setting", () => {
    expect(describeConfig(Config).filter(({ description }) => description === "")).toEqual([]);
  });
});
