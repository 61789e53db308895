/** How much memory a process takes before it looks for what it can give back. */
import { setFlagsFromString } from "node:v8";

/**
 * V8 lets the heap of a busy process grow up to fourfold between two full collections: events that wait half a second for their batch outlive
 * the collections of the young, so that processes took 220 to 340 MB in a burst, of which they needed 60. A limit (`--max-old-space-size`)
 * would end the process where it once needs more; this does not. It costs about 5 % more CPU (`docs/performance.md`).
 */
const GROWTH_PERCENT = 60;

/** From now on the heap is collected whenever it has grown by 60 % since it was last. For the whole process, whatever runs in it. */
export function boundHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
