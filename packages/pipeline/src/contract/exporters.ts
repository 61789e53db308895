/** The registered exporters. One entry registers an exporter; its folder is `apps/<name>-processor`. */
import { type EventType, TASK_EVENT_TYPES } from "@celery-metrics-exporter/celery";

/** What the receiver needs to know of an exporter. */
export interface ExporterRegistration {
  /** Names its queue, its app and its entry in `EXPORTERS`. */
  readonly name: string;
  /** Default health port of its processor. No other role may have it, and no program that is likely to run beside it. */
  readonly healthPort: number;
  /**
   * The event types it wants. Events that no exporter takes are not enqueued. Names and queues are only in `task-sent` and `task-received`; the
   * filters see these even if no exporter takes them. An exporter with `forget` takes `task-sent`.
   */
  readonly takes: readonly EventType[];
  /** Fields that it does not use. They are not written to its queue. */
  readonly omits?: readonly string[];
  /** Whether it has `observe`, and so gets what monitors and receivers observe. */
  readonly observes?: boolean;
}

const EVERY_TYPE: readonly EventType[] = [...TASK_EVENT_TYPES, "worker-online", "worker-heartbeat", "worker-offline"];
/** What metrics do not need. */
const DETAILS = ["args", "kwargs", "result", "traceback", "root_id", "parent_id", "expires"];

export const EXPORTERS: readonly ExporterRegistration[] = [
  { name: "datadog", healthPort: 9802, takes: EVERY_TYPE, observes: true, omits: DETAILS },
  { name: "postgres", healthPort: 9803, takes: EVERY_TYPE, observes: true },
  { name: "prometheus", healthPort: 9805, takes: EVERY_TYPE, observes: true, omits: DETAILS },
];
