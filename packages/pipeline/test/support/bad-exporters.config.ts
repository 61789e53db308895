import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const conditions = ["source"];

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { include: ["bad-exporters.ts"], testTimeout: 60_000, hookTimeout: 60_000 },
});
