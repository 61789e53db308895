/**
 * What the monitor sees when it looks at the broker and asks the workers, and what a receiver knows of itself. Unlike an event, an observation says how
 * things are at one time, so the newest one counts, and a lost one is replaced by the next.
 */

/** The queues of the application, as the broker sees them. */
export interface QueuesObserved {
  readonly type: "queues-observed";
  /** Seconds since the epoch, by the monitor's clock. */
  readonly timestamp: number;
  readonly broker: "rabbitmq" | "redis";
  readonly queues: readonly ObservedQueue[];
  /** Messages that workers have taken and not acknowledged, of all queues together. Only Redis tells. */
  readonly unacked?: ObservedUnacked;
}

export interface ObservedQueue {
  readonly name: string;
  /** Messages that no worker has taken. */
  readonly messages: number;
  /** Those messages by priority, if any has another than 0. Priorities without messages are missing. Only Redis tells. */
  readonly byPriority?: Readonly<Record<string, number>>;
  /** Consumers, as the broker counts them. Only RabbitMQ tells. */
  readonly consumers?: number;
}

export interface ObservedUnacked {
  readonly messages: number;
  /** When a worker took the oldest one. Seconds since the epoch, by that worker's clock. */
  readonly oldestAt?: number;
}

/** What the workers answered when they were asked. Workers that did not answer are not in it. */
export interface WorkersObserved {
  readonly type: "workers-observed";
  /** Seconds since the epoch, by the monitor's clock. */
  readonly timestamp: number;
  readonly workers: readonly ObservedWorker[];
}

/** From a worker's replies to `stats` and `active_queues`. An absent field was not in its reply. */
export interface ObservedWorker {
  /** The node's name, `name@host`. */
  readonly hostname: string;
  /** Queues that it consumes from. */
  readonly queues?: readonly string[];
  readonly pid?: number;
  /** Seconds since it started. */
  readonly uptime?: number;
  /** The pool's implementation, such as `celery.concurrency.prefork:TaskPool`. */
  readonly pool?: string;
  /** Processes or threads that run tasks. */
  readonly concurrency?: number;
  /** How many messages it takes from the broker ahead of acknowledging them. */
  readonly prefetchCount?: number;
}

/**
 * That a receiver listened without interruption, so that a worker that was silent meanwhile is gone. It waits behind the events that were received until
 * then. An exporter that gets it has got them, or soon will.
 */
export interface Listened {
  readonly type: "listened";
  /** What it reads from, without credentials: the same text in every receiver of the same source. */
  readonly source: string;
  /** Seconds since the epoch, by the receiver's clock. */
  readonly since: number;
  /** Until when. Seconds since the epoch, by the receiver's clock. */
  readonly timestamp: number;
}

export type Observation = QueuesObserved | WorkersObserved | Listened;
