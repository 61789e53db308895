/** The tests that `pnpm test:mutation` runs (docs/mutation.md): of one package's pure core, fast, and without servers. */
import { defineConfig } from "vitest/config";

const conditions = ["source"];
const TESTS: Readonly<Record<string, string>> = {
  "apps/receiver": "redaction",
  "packages/celery": "!(fuzz|memory)",
  "packages/db": "{merge-rows,storable-text}",
  "packages/pipeline": "{batch,scheduled-ids,payloads,task-filter}",
  "packages/task-store": "{base36,completions,fact,forget,keys,looks-in-memory,pairing,short-histories,stored-form,summarise,triage}",
};
const only = process.env["MUTATION_PACKAGE"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    isolate: false,
    // Stryker has its own limits.
    testTimeout: 60_000,
    include: Object.entries(TESTS)
      .filter(([folder]) => only === undefined || folder === only)
      .map(([folder, names]) => `${folder}/test/**/${names}.test.ts`),
    // A mutant must meet the same examples each time.
    setupFiles: ["test/mutation/same-examples.ts"],
  },
});
