/** Property tests try the same examples in each run, so that a mutant is killed or survives each time. */
import * as fc from "fast-check";

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 1 });
