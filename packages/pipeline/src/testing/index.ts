export { describeExporter, startMortal, type ExporterHarness, type MortalProcess } from "./contract.ts";
export { SAMPLE_IDS, sampleHistory, sampleObservations } from "./sample-history.ts";
export { createTestExporter, type ScheduledJob, type TestExporter } from "./test-exporter.ts";
