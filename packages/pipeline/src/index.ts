export { AttemptMemory, type AttemptMemoryOptions } from "./filter/attempt-memory.ts";
export { admitAll, openFilter, type Admitted, type BatchFilter } from "./filter/batch-filter.ts";
export { decodeBatch, encodeBatch, type BatchPayload, type EventBatch } from "./queue/batch.ts";
export { DeadLetterReplay, type ReplayedLetter, type Selection } from "./dead-letter/replay.ts";
export { DeadLetters, MAX_DEAD_LETTERS, type DeadLettersOptions } from "./dead-letter/dead-letters.ts";

export {
  defineExporter,
  type ExportedBatch,
  type Exporter,
  type ExporterContext,
  type ExporterDefinition,
  type ProcessingJob,
  type Schedule,
} from "./contract/exporter.ts";
export { eventTypeWarnings } from "./filter/task-filter.ts";
export { exportersInUse } from "./queue/exporters-in-use.ts";
export { EXPORTERS, type ExporterRegistration } from "./contract/exporters.ts";
export { Fanout, type FanoutOptions } from "./produce/fanout.ts";
export { HostConfig } from "./host/host.ts";
export { FUTURE, RECEIVER, REDACTED, letterOf, lettersOfFuture, type DeadLetter } from "./dead-letter/letter.ts";
export { ObservationOutlet, type ObservationOutletOptions } from "./produce/observation-outlet.ts";
export { OnlineMark } from "./produce/online-mark.ts";
export { OtherSources, type OtherSourcesOptions } from "./produce/other-sources.ts";
export { processorRole, runProcessor } from "./host/processor-role.ts";
export { DEAD_LETTER_QUEUE, eventsQueueName, processingQueueName } from "./queue/names.ts";
export { ReceiverRegister, type ReceiverRegisterOptions } from "./produce/receiver-register.ts";
export { Leadership, type LeadershipClaim, type LeadershipAnswer, type LeadershipOptions } from "./produce/leadership.ts";
export { Leader, type LeaderOptions } from "./produce/leader.ts";
export { KnownQueues, type KnownQueuesOptions } from "./produce/known-queues.ts";
export type { ReplayRedaction } from "./dead-letter/replayed-letter.ts";
export { EventFilter, FilterConfig } from "./filter/task-filter.ts";
