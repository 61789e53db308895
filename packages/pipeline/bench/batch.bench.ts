import { bench, describe } from "vitest";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { decodeBatch, encodeBatch } from "../src/index.ts";

const { events } = readCorpus("celery-5.6-amqp");
const written = JSON.stringify(encodeBatch({ broker: "rabbitmq", events }));

describe(`a batch of ${events.length} events`, () => {
  bench("to a job's text", () => void JSON.stringify(encodeBatch({ broker: "rabbitmq", events })));
  bench("from a job's text", () => void decodeBatch(JSON.parse(written)));
});
