/** An `onMessage` that records messages, for tests. */
import type { CeleryEvent, Decoded } from "@celery-metrics-exporter/celery";
import { setTimeout as sleep } from "node:timers/promises";
import type { RawMessage } from "../source/source.ts";

export class Recorder {
  readonly messages: RawMessage[] = [];
  readonly decoded: Decoded[] = [];
  readonly onMessage = (message: RawMessage): void => {
    this.messages.push(message);
    this.decoded.push(message.decode());
  };

  /** The events of all messages so far, in order of arrival. */
  get events(): CeleryEvent[] {
    return this.decoded.flatMap(({ events }) => events);
  }

  get types(): string[] {
    return this.events.map(({ type }) => type);
  }

  /**
   * Resolves when this many messages have arrived.
   *
   * @throws {Error} if they do not arrive within `timeoutMs`.
   */
  async waitFor(count: number, timeoutMs = 10_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (this.messages.length < count) {
      if (Date.now() > deadline) throw new Error(`${this.messages.length} of ${count} messages came within ${timeoutMs} ms`);
      await sleep(5);
    }
  }
}
