export {
  SENT_AT,
  TASK_ID,
  customEvent,
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "./builders.ts";
export {
  corpusNames,
  readCorpus,
  type AmqpFrame,
  type Corpus,
  type CorpusFrame,
  type CorpusName,
  type ExpectedMetrics,
  type ExpectedRow,
  type RedisFrame,
} from "./corpus.ts";
export { eventProblems } from "./event-problems.ts";
export { deliveries, doubled, shuffled, split, taskHistories, type Delivery } from "./histories.ts";
export { Fuzzer, type FuzzTally } from "./fuzz.ts";
export { LISTENING_CASES, LISTENING_HEARD_AGO, LISTENING_LIMIT_SECONDS, reportsOf } from "./listening-cases.ts";
export { listened, queuesObserved, workersObserved } from "./observations.ts";
export { sortedMetrics, type Sample, type SortedMetrics } from "./sorted-metrics.ts";
export { liveHeapBytes } from "./live-heap.ts";
