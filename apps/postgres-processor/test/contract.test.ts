import { describeExporter } from "@celery-metrics-exporter/pipeline/testing";
import { createPostgresHarness } from "./postgres-harness.ts";

describeExporter("postgres", () => createPostgresHarness(), { process: "a row is written by `export`" });
