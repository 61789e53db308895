/** The demo without the servers that it needs: `npm run demo` starts those. */
import { processEnvironment } from "@celery-metrics-exporter/runtime";
import { runDemoCommand } from "./command.ts";

await runDemoCommand(process.argv.slice(2), processEnvironment());
