import { corpusNames, readCorpus } from "@celery-metrics-exporter/celery/testing";
import { pino } from "pino";
import { bench, describe } from "vitest";
import { SenderClocks } from "../src/clocks.ts";

const clocks = new SenderClocks({
  now: () => Date.now() / 1_000,
  health: { up: () => {}, down: () => {} },
  logger: pino({ level: "silent" }),
});

for (const name of corpusNames) {
  const corpus = readCorpus(name);
  const { frames, events } = corpus;
  describe(`${name}: ${events.length} events in ${frames.length} frames`, () => {
    bench("decode", () => {
      for (const frame of frames) corpus.decode(frame);
    });
    bench("decode, and look for events from the future", () => {
      for (const frame of frames) clocks.sort(corpus.decode(frame).events);
    });
  });
}
