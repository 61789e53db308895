export { AttemptMemory, type AttemptMemoryOptions } from "./attempt-memory.ts";
export { BatchFilter, type Admitted } from "./batch-filter.ts";
export { decodeBatch, encodeBatch, type BatchPayload, type EventBatch } from "./batch.ts";
export { DeadLetterReplay, type ReplayedLetter, type Selection } from "./dead-letter-replay.ts";
export { DeadLetters, MAX_DEAD_LETTERS, type DeadLettersOptions } from "./dead-letter.ts";
export { PermanentError } from "./errors.ts";
export {
  defineExporter,
  type Exporter,
  type ExporterContext,
  type ExporterDefinition,
  type ProcessingJob,
  type Schedule,
} from "./exporter.ts";
export { eventTypeWarnings } from "./event-type-problem.ts";
export { exportersInUse } from "./exporters-in-use.ts";
export { EXPORTERS, type ExporterRegistration } from "./exporters.ts";
export { Fanout, type FanoutOptions } from "./fanout.ts";
export { HostConfig } from "./host-config.ts";
export { FUTURE, RECEIVER, REDACTED, letterOf, lettersOfFuture, type DeadLetter } from "./letter.ts";
export { OtherSources, type OtherSourcesOptions } from "./other-sources.ts";
export { processorRole, runProcessor } from "./processor-role.ts";
export { DEAD_LETTER_QUEUE, eventsQueueName, processingQueueName } from "./queue-names.ts";
export { ReceiverRegister, type ReceiverRegisterOptions } from "./receiver-register.ts";
export { ReceiverLease, type Claim, type LeaseAnswer, type ReceiverLeaseOptions } from "./receiver-lease.ts";
export type { ReplayRedaction } from "./replayed-letter.ts";
export { EventFilter, FilterConfig } from "./task-filter.ts";
