import { defineConfig } from "vitest/config";

/** `pnpm test:soak`: the fault tests at full length, and properties with more examples (packages/testkit/src/scale.ts). */
const soak = process.env["SOAK"] === "1";
const conditions = ["source"];
/** Starts Redis, RabbitMQ and PostgreSQL when the first test asks for them. */
const globalSetup = ["packages/testkit/src/global-setup.ts"];
/** `npm run test:faults`: whole deployments under faults, and what kills, starves or floods one part for a long time. */
const faultTests = [
  "test/faults/**/*.test.ts",
  "test/e2e/receiver-down.test.ts",
  "apps/datadog-processor/test/kill.test.ts",
  "packages/broker/test/rabbitmq/rabbitmq-outage.test.ts",
  "packages/celery/test/wire/fuzz.test.ts",
  "packages/control/test/nothing-left.test.ts",
  "packages/pipeline/test/contract/contract-suite.test.ts",
  "packages/pipeline/test/deliver/systematic-fault.test.ts",
  "packages/pipeline/test/queue/takeover.test.ts",
  "packages/testkit/test/private-rabbitmq.test.ts",
];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    pool: "forks",
    // Most tests wait for servers and clocks most of the time: two processors are busy with four files and their servers.
    maxWorkers: 4,
    // Vitest's second is too short where four files share two processors.
    expect: { poll: { timeout: 10_000 } },
    // Loading our modules anew for each file takes a third of the run; none keeps anything between files.
    isolate: false,
    // Optimizing the WebAssembly of the embedded database takes each worker 2 s of CPU time, which only pays later.
    execArgv: ["--liftoff-only"],
    // Of a whole run, 70 s of CPU time are spent on removing types. What did not change since is read from node_modules.
    experimental: { fsModuleCache: true },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          globalSetup,
          include: ["apps/*/test/**/*.test.ts", "packages/*/test/**/*.test.ts"],
          exclude: faultTests,
          // The first test that needs RabbitMQ waits for it to start, beside three other files.
          testTimeout: 60_000,
          hookTimeout: 60_000,
          benchmark: { include: ["apps/*/bench/**/*.bench.ts", "packages/*/bench/**/*.bench.ts"] },
        },
      },
      {
        extends: true,
        test: { name: "integration", globalSetup, include: ["test/integration/**/*.test.ts"], testTimeout: 120_000, hookTimeout: 120_000 },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          globalSetup,
          include: ["test/e2e/**/*.test.ts"],
          exclude: faultTests,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: "faults",
          globalSetup,
          // Never beside the others: most start a whole deployment, which has to keep up with its load.
          sequence: { groupOrder: 1 },
          maxWorkers: soak ? 1 : 3,
          include: faultTests,
          testTimeout: soak ? 1_800_000 : 300_000,
          hookTimeout: 120_000,
        },
      },
      { extends: true, test: { name: "invariants", include: ["test/invariants/**/*.test.ts"] } },
    ],
  },
});
