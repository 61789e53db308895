/** Writes `docs/configuration.md`, the list of all settings, and `docs/openapi.json`: `pnpm docs:configuration`. Needs the build. */
import { readFileSync, writeFileSync } from "node:fs";
import { configurationDocument } from "../apps/cli/dist/index.js";
import { openApiDocument } from "../apps/web/dist/index.js";

const text = configurationDocument();
writeFileSync(new URL("../docs/configuration.md", import.meta.url), text);

const names = [...new Set([...text.matchAll(/^\| `([A-Z_]+)`/gm)].map((row) => row[1]))].toSorted();
const list = new URL("../packages/runtime/src/config/setting-names.ts", import.meta.url);
const [head] = readFileSync(list, "utf8").split("= [", 1);
writeFileSync(list, `${head}= [\n${names.map((name) => `  "${name}",\n`).join("")}];\n`);

writeFileSync(new URL("../docs/openapi.json", import.meta.url), await openApiDocument());
