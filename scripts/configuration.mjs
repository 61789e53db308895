/** Writes `docs/configuration.md`: `pnpm docs:configuration`. Needs the build. */
import { writeFileSync } from "node:fs";
import { configurationDocument } from "../apps/cli/dist/index.js";

writeFileSync(new URL("../docs/configuration.md", import.meta.url), configurationDocument());
