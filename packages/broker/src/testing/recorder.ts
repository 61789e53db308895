/** An `onMessage` that keeps what it gets, for tests. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import { setTimeout as sleep } from "node:timers/promises";
import type { RawMessage } from "../source.ts";

export class Recorder {
  readonly messages: RawMessage[] = [];
  readonly onMessage = (message: RawMessage): void => void this.messages.push(message);

  /** The events of all messages so far, in order of arrival. */
  get events(): CeleryEvent[] {
    return this.messages.flatMap((message) => message.decode().events);
  }

  get types(): string[] {
    return this.events.map(({ type }) => type);
  }

  /**
   * Resolves when so many messages have come.
   *
   * @throws {Error} when they have not within `timeoutMs`.
   */
  async waitFor(count: number, timeoutMs = 10_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (this.messages.length < count) {
      if (Date.now() > deadline) throw new Error(`${this.messages.length} of ${count} messages came within ${timeoutMs} ms`);
      await sleep(5);
    }
  }
}
