import { describe, expect, it } from "vitest";
import { configWarnings } from "../../src/index.ts";

function warned(env: Record<string, string>): Record<string, string> {
  return Object.fromEntries(configWarnings(env).map(({ setting, problem }) => [setting, problem]));
}

describe("configWarnings", () => {
  it.each([
    ["FILTER_TASK_NAME_EXCLUDE", "FILTER_TASK_NAMES_EXCLUDE"],
    ["FILTER_EXCLUDE_TASK_NAMES", "FILTER_TASK_NAMES_EXCLUDE"],
    ["FILTERS_QUEUES_INCLUDE", "FILTER_QUEUES_INCLUDE"],
    ["BACTH_MAX_MS", "BATCH_MAX_MS"],
    ["BATCH_SIZE", "BATCH_MAX_MS"],
    ["DASHBOARD_PASS", "DASHBOARD_PASSWORD"],
    ["DASHBOARD_PASWORD_FILE", "DASHBOARD_PASSWORD"],
    ["POSTGRES_RETENTION", "POSTGRES_RETENTION_DAYS"],
    ["RABBITMQ_PREFETCHES", "RABBITMQ_PREFETCH"],
    ["DATADOG_PREFIX", "DATADOG_METRIC_PREFIX"],
    ["CELERY_BROKER_URI", "CELERY_BROKER_URL"],
    ["DATABASE_URI", "DATABASE_URL"],
    ["LOGLEVEL", "LOG_LEVEL"],
    ["log_level", "LOG_LEVEL"],
  ])("suggests a setting for %s", (variable, setting) => {
    expect(warned({ [variable]: "hunter2" })).toEqual({ [variable]: expect.stringContaining(`did you mean ${setting}?`) as string });
    expect(JSON.stringify(warned({ [variable]: "hunter2" }))).not.toContain("hunter2");
  });

  it("ignores settings of any role, variables of other programs, and empty variables", () => {
    const others = {
      PATH: "/bin",
      CE_HOST: "0.0.0.0",
      CE_PORT: "9808",
      HOSTNAME: "h",
      POSTGRES_PASSWORD: "x",
      POSTGRES_USER: "x",
      REDIS_HOST: "x",
      REDIS_PORT: "tcp://10.0.0.1:6379",
      RABBITMQ_DEFAULT_USER: "x",
      CELERY_RESULT_BACKEND: "x",
      CELERY_TASK_SERIALIZER: "json",
      DATABASE_HOST: "x",
      DD_SERVICE: "x",
      DD_TRACE_AGENT_URL: "x",
      DATADOG_API_KEY: "x",
      DASHBOARD_SERVICE_HOST: "10.0.0.1",
      DASHBOARD_PORT_3000_TCP_ADDR: "10.0.0.1",
      EVENT_SOURCE: "x",
      QUEUE_NAME: "x",
      LOG_FILE: "x",
    };
    expect(warned(others)).toEqual({});
    expect(warned({ POSTGRES_POOL_SIZE: "5", DATABASE_URL_FILE: "/run/x", DASHBOARD_PASSWORD: "x", FILTER_TASK_NAME: "" })).toEqual({});
  });

  it("reports that a file is ignored if the variable is set too", () => {
    expect(warned({ DATABASE_URL: "postgres://h/d", DATABASE_URL_FILE: "/run/hunter2" })).toEqual({
      DATABASE_URL_FILE: "is ignored, because DATABASE_URL is set too",
    });
    expect(warned({ DATABASE_URL: "", DATABASE_URL_FILE: "/run/x" })).toEqual({});
  });

  it("reports unknown query settings of REDIS_URL and accepts known ones", () => {
    expect(warned({ REDIS_URL: "rediss://h/1?ssl_ca_cert=/ca.pem&ssl_cert_reqs=CERT_NONE" })).toEqual({
      REDIS_URL: expect.stringMatching(/ssl_ca_cert is unknown.*did you mean ssl_ca_certs\?/) as string,
    });
    expect(warned({ REDIS_URL: "redis+cluster://a:1,b:2?foo=x" })).toEqual({
      REDIS_URL: expect.stringMatching(/^the query setting foo is unknown and ignored; known settings: db, virtual_host, ssl, /) as string,
    });
    expect(warned({ REDIS_URL: "redis://h?db=1" })).toEqual({});
    expect(warned({ REDIS_URL: "sentinel://a:26379;sentinel://b:26379/0" })).toEqual({});
  });
});
