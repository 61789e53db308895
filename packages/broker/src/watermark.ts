/** How far everything that was published is known to be safe. Moments are `performance.now()`, in milliseconds. */

/** The messages that arrived between two answered probes: all were published after `since`. */
export interface Span {
  readonly since: number;
  unsafe: number;
}

/**
 * A probe is a PING on the connection that the messages come on. Its answer comes behind all that was published before, so that when it is there
 * nothing from before the probe is still on its way, in a socket that was not read, or in a process that was stopped. Arrival times alone would
 * claim too much.
 */
export class Watermark {
  #spans: readonly [Span, ...Span[]];

  /** @param startedAt a moment before anything was subscribed to. */
  constructor(startedAt: number) {
    this.#spans = [{ since: startedAt, unsafe: 0 }];
  }

  /** A message has arrived. Hand the span back to `settled` once the message is safe, or given up. */
  arrived(): Span {
    const span = this.#spans.at(-1) ?? this.#spans[0];
    span.unsafe += 1;
    return span;
  }

  /** Once for each message. */
  settled(span: Span): void {
    span.unsafe -= 1;
  }

  /** A probe that was sent at this moment has been answered. */
  heardUntil(moment: number): void {
    const next: Span = { since: moment, unsafe: 0 };
    const [first, ...others] = [...this.#spans.filter(({ unsafe }) => unsafe > 0), next];
    this.#spans = [first ?? next, ...others];
  }

  /** All that was published before this moment has arrived and is settled. */
  get safeUntil(): number {
    const last = this.#spans.at(-1) ?? this.#spans[0];
    return (this.#spans.find(({ unsafe }) => unsafe > 0) ?? last).since;
  }
}
