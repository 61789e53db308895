import { bench, describe } from "vitest";
import { corpusNames, readCorpus } from "@celery-metrics-exporter/celery/testing";

describe("decode: every frame of a recording", () => {
  for (const name of corpusNames) {
    const corpus = readCorpus(name);
    const { frames, events } = corpus;
    bench(`${name}: ${events.length} events in ${frames.length} frames`, () => {
      for (const frame of frames) corpus.decode(frame);
    });
  }
});

describe("the same bytes, with JSON.parse alone", () => {
  const { frames } = readCorpus("celery-5.6-amqp");
  const bodies = frames.flatMap((frame) => (frame.transport === "amqp" ? [frame.body] : []));
  bench("celery-5.6-amqp", () => {
    for (const body of bodies) JSON.parse(body.toString());
  });
});
