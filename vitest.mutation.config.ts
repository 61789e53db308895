/** The tests that `pnpm test:mutation` runs for each mutant (docs/mutation.md): of the pure core, fast, and without servers. */
import { defineConfig } from "vitest/config";

const conditions = ["source"];
/** What needs a server, measures memory or takes long. */
const UNFIT = {
  celery: ["fuzz", "memory"],
  "task-store": ["claim", "cluster", "corpus", "looks", "many-attempts", "memory", "merge", "open-tasks", "sweep"],
};

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    isolate: false,
    include: [
      "packages/{celery,task-store}/test/*.test.ts",
      "packages/db/test/{merge-rows,storable-text}.test.ts",
      "packages/pipeline/test/{batch,ids-batch,payloads,task-filter}.test.ts",
      "apps/receiver/test/redaction.test.ts",
    ],
    exclude: Object.entries(UNFIT).flatMap(([name, tests]) => tests.map((test) => `packages/${name}/test/${test}.test.ts`)),
    // A mutant must meet the same examples each time.
    setupFiles: ["test/mutation/same-examples.ts"],
  },
});
