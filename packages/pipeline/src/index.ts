export { PermanentError } from "./errors.ts";
export {
  defineExporter,
  type Exporter,
  type ExporterContext,
  type ExporterDefinition,
  type ProcessingJob,
  type Schedule,
} from "./exporter.ts";
export { EXPORTERS, type ExporterRegistration } from "./exporters.ts";
export { DEAD_LETTER_QUEUE, eventsQueueName, processingQueueName } from "./queue-names.ts";
