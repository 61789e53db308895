import { describeExporter } from "@celery-metrics-exporter/pipeline/testing";
import { createPostgresHarness } from "./postgres-harness.ts";

describeExporter("postgres", () => createPostgresHarness());
