import { loadConfig } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { agentAddress, describeAddress } from "../src/agent/agent-address.ts";
import { Config } from "../src/config.ts";

describe("the agent's address", () => {
  it.each<[Record<string, string>, string]>([
    [{}, "udp://127.0.0.1:8125"],
    [{ DD_AGENT_HOST: "agent", DD_DOGSTATSD_PORT: "9125" }, "udp://agent:9125"],
    [{ DD_AGENT_HOST: "::1" }, "udp://[::1]:8125"],
    [{ DD_AGENT_HOST: "agent", DD_DOGSTATSD_URL: "udp://other:9999" }, "udp://other:9999"],
    [{ DD_DOGSTATSD_PORT: "9125", DD_DOGSTATSD_URL: "udp://other" }, "udp://other:9125"],
    [{ DD_DOGSTATSD_URL: "udp://[::1]:9125" }, "udp://[::1]:9125"],
    [{ DD_DOGSTATSD_URL: "unix:///var/run/datadog/dsd.socket" }, "unix:///var/run/datadog/dsd.socket"],
  ])("from %j is %s", (env, address) => {
    expect(describeAddress(agentAddress(loadConfig(Config, env)))).toBe(address);
  });

  it.each(["unix://relative/path", "udp://", "udp://:8125", "udp://agent:99999"])("is refused as %s with the other settings", (text) => {
    expect(() => loadConfig(Config, { DD_DOGSTATSD_URL: text })).toThrow(/DD_DOGSTATSD_URL: /);
  });
});

describe("the settings", () => {
  it.each([
    [{ DD_DOGSTATSD_URL: "http://agent:8125" }, "DD_DOGSTATSD_URL"],
    [{ DATADOG_METRIC_PREFIX: "1x" }, "DATADOG_METRIC_PREFIX"],
    [{ DATADOG_METRIC_PREFIX: "a:b" }, "DATADOG_METRIC_PREFIX"],
    [{ DATADOG_TAGS: `x:${"y".repeat(400)}` }, "DATADOG_TAGS"],
    [{ DATADOG_TIMER_TYPE: "gauge" }, "DATADOG_TIMER_TYPE"],
    [{ DD_DOGSTATSD_PORT: "70000" }, "DD_DOGSTATSD_PORT"],
  ])("%j are refused, naming %s", (env, name) => {
    expect(() => loadConfig(Config, env)).toThrow(name);
  });

  it("accept an empty prefix, and tags surrounded by spaces", () => {
    const config = loadConfig(Config, { DATADOG_TAGS: " env:prod , team:x" });
    expect(config.DATADOG_TAGS).toEqual(["env:prod", "team:x"]);
    expect(config.DATADOG_METRIC_PREFIX).toBe("celery.");
  });
});
