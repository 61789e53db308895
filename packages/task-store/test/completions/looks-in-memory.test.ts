/** As `looks.test.ts`, fast enough to be run for each mutant. */
import { describeLooks } from "./looks.ts";
import { MemoryStore } from "../memory-store.ts";

describeLooks(async () => new MemoryStore());
