import { expect, it } from "vitest";
import { renderAddresses } from "../src/report/addresses.ts";

const ADDRESSES = {
  brokerUrl: "amqp://celery:hunter2@rabbitmq//",
  redisUrl: "rediss://:hunter2@redis/1?ssl_keyfile=hunter2",
  queuePrefix: "{cme}",
  databaseUrl: "pglite:./.data/pglite",
  datadog: undefined,
  scrapedUrl: undefined,
  others: [],
  dashboardUrl: "http://127.0.0.1:3000/",
  webUrl: "http://127.0.0.1:5555",
  healthUrl: "http://127.0.0.1:8080",
};
const plain = { bold: String, dim: String };

it("shows the addresses to open and how to read the rows, without a password", () => {
  const text = renderAddresses(ADDRESSES, plain);
  expect(text).toMatch(/^ {2}Events {5}from amqp:\/\/\*\*\*@rabbitmq\/\/$/m);
  expect(text).toMatch(/^ {2}Queues {5}in rediss:\/\/\*\*\*@redis\/1 {2}keys \{cme\}:\*$/m);
  expect(text).toMatch(/^ {2}Rows {7}in an embedded PostgreSQL, \.\/\.data\/pglite$/m);
  expect(text).toContain("pnpm celery-metrics-exporter query");
  expect(text).toMatch(/^ {2}Datadog {4}off .*DD_AGENT_HOST=<host>/m);
  expect(text).toContain("http://127.0.0.1:3000/");
  expect(text).toContain("http://127.0.0.1:8080/readyz");
  expect(text).not.toContain("hunter2");
});

it("shows only what is running", () => {
  const datadog = { address: "udp://agent:8125", answers: true };
  const text = renderAddresses({ ...ADDRESSES, databaseUrl: undefined, dashboardUrl: undefined, datadog }, plain);
  expect(text).not.toMatch(/Rows|Dashboard|DD_AGENT_HOST|Prometheus/);
  expect(text).toMatch(/^ {2}Datadog {4}to udp:\/\/agent:8125$/m);
});

it("shows what Prometheus scrapes", () => {
  const text = renderAddresses({ ...ADDRESSES, scrapedUrl: "http://127.0.0.1:9808/metrics" }, plain);
  expect(text).toMatch(/^ {2}Prometheus http:\/\/127\.0\.0\.1:9808\/metrics {2}to scrape$/m);
});

it("shows every other exporter that runs, with its sink if it names one", () => {
  const others = [
    { name: "otlp", sink: "http://collector:4318" },
    { name: "long-named-exporter", sink: undefined },
  ];
  const text = renderAddresses({ ...ADDRESSES, others }, plain);
  expect(text).toMatch(/^ {2}otlp {7}to http:\/\/collector:4318$/m);
  expect(text).toMatch(/^ {2}long-named-exporter on$/m);
});

it("does not suggest a query for rows that no other process can read", () => {
  const text = renderAddresses({ ...ADDRESSES, databaseUrl: "pglite:memory" }, plain);
  expect(text).toMatch(/^ {2}Rows {7}in memory {2}lost when it stops; no other process can read them$/m);
  expect(text).not.toContain("celery-metrics-exporter query");
});

it("says that no agent answers at the address for metrics", () => {
  const datadog = { address: "udp://127.0.0.1:8125", answers: false };
  expect(renderAddresses({ ...ADDRESSES, datadog }, plain)).toMatch(
    /^ {2}Datadog {4}to udp:\/\/127\.0\.0\.1:8125 {2}no agent answers there/m,
  );
});
