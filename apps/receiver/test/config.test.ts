import { describeConfig, loadConfig, redactConfig } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { Config, chosenExporters, sourceOptions } from "../src/config.ts";

const URL = "amqp://guest:secret@host//";
const load = (env: Record<string, string> = {}) => loadConfig(Config, { CELERY_BROKER_URL: URL, ...env });

describe("the receiver's configuration", () => {
  it("feeds every exporter by default, otherwise only those named", () => {
    expect(chosenExporters(load()).map(({ name }) => name)).toEqual(["datadog", "postgres"]);
    expect(chosenExporters(load({ EXPORTERS: " postgres , " })).map(({ name }) => name)).toEqual(["postgres"]);
  });

  it.each([
    [{ CELERY_BROKER_URL: "" }, /CELERY_BROKER_URL: is required/],
    [{ CELERY_BROKER_URL: "sqs://key:secret@" }, /CELERY_BROKER_URL: .*scheme sqs do not carry events.*supported: amqp/],
    [{ CELERY_BROKER_URL: "redis://:secret@h/shop" }, /CELERY_BROKER_URL: .*number of a database/],
    [{ EXPORTERS: "datadog,kafka" }, /EXPORTERS: unknown exporter kafka; known exporters, separated by commas: datadog, postgres/],
    [{ EXPORTERS: "postgres datadog" }, /EXPORTERS: unknown exporter postgres datadog; known exporters, separated by commas/],
    [{ EXPORTERS: "," }, /EXPORTERS: must name an exporter; known exporters, separated by commas: datadog, postgres/],
    [{ RABBITMQ_QUEUE_TYPE: "stream" }, /RABBITMQ_QUEUE_TYPE/],
    [{ QUEUE_FULL: "drop" }, /QUEUE_FULL/],
    [{ RABBITMQ_PREFETCH: "0" }, /RABBITMQ_PREFETCH: must be at least 1/],
  ])("refuses %j and names the setting, never the password", (env, message) => {
    expect(() => load(env as Record<string, string>)).toThrow(message);
    expect(() => load(env as Record<string, string>)).not.toThrow(/secret/);
  });

  it("shows the broker URL without its password", () => {
    expect(redactConfig(Config, load())["CELERY_BROKER_URL"]).toBe("amqp://***@host//");
  });

  it("describes every setting", () => {
    expect(describeConfig(Config).filter(({ description }) => description === "")).toEqual([]);
  });

  it("has the defaults of the queue", () => {
    expect(sourceOptions(load()).rabbitmq).toEqual({
      consumerTag: expect.any(String) as string,
      exchange: "celeryev",
      queue: "celery-metrics-exporter",
      queueType: "quorum",
      queueMaxBytes: 1_073_741_824,
      queueExpiresMs: 604_800_000,
      prefetch: 8_000,
      prefetchBytes: 4_194_304,
    });
  });

  it.each([
    [{}, { fanoutPrefix: true }],
    [{ CELERY_FANOUT_PREFIX: "False" }, { fanoutPrefix: false }],
    [{ CELERY_FANOUT_PREFIX: "shop.{db}." }, { fanoutPrefix: "shop.{db}." }],
    [{ CELERY_FANOUT_PATTERNS: "true" }, { fanoutPatterns: true }],
    [{ CELERY_FANOUT_PATTERNS: "false" }, { fanoutPatterns: false }],
    [{ CELERY_GLOBAL_KEYPREFIX: "shop:" }, { globalKeyprefix: "shop:" }],
  ])("turns %j into transport options", (env, options) => {
    expect(sourceOptions(load(env as Record<string, string>)).redis).toMatchObject(options);
  });
});
