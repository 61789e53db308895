/** What a scenario is given, and what it gives. */
import type { Section } from "./report/figure.ts";
import type { Servers } from "./servers.ts";

export interface Bench {
  readonly servers: Servers;
  /** How often each figure is measured. */
  readonly rounds: number;
  /** Tells who watches what is being done. */
  readonly progress: (text: string) => void;
}

export interface Scenario {
  /** For `--only`. */
  readonly name: string;
  run(bench: Bench): Promise<Section>;
}
