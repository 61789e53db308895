/** The input and output of a scenario. */
import type { Section } from "./report/figure.ts";
import type { Servers } from "./servers.ts";

export interface Bench {
  readonly servers: Servers;
  /** Number of rounds of each measurement. */
  readonly rounds: number;
  /** Reports progress to the user. */
  readonly progress: (text: string) => void;
}

export interface Scenario {
  /** For `--only`. */
  readonly name: string;
  run(bench: Bench): Promise<Section>;
}
