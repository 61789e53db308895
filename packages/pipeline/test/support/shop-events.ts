/** Events like those of a real shop: the recorded corpora, one after the other, with ids of their own at each repetition. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { isTaskEvent } from "@celery-metrics-exporter/celery";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";

/** At least `count` events in the order they were recorded, cut to that number. */
export function shopEvents(count: number): CeleryEvent[] {
  const recorded = [...readCorpus("celery-5.6-amqp").events, ...readCorpus("celery-5.2-amqp").events];
  const events: CeleryEvent[] = [];
  for (let round = 0; events.length < count; round++) {
    const stamp = round.toString(16).padStart(4, "0");
    events.push(...recorded.map((event) => (isTaskEvent(event) ? { ...event, uuid: stamp + event.uuid.slice(4) } : event)));
  }
  return events.slice(0, count);
}
