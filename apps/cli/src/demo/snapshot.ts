/** What the demo shows of itself at one moment. */
export interface Snapshot {
  readonly elapsedSeconds: number;
  /** When it stops by itself. */
  readonly totalSeconds: number | undefined;
  readonly phase: "running" | "draining";
  readonly workload: string;
  readonly tasksSent: number;
  readonly eventsReceived: number;
  readonly eventsPerSecond: number;
  /** How old the events were that went through last; undefined before the first. */
  readonly lagSeconds: number | undefined;
  /** Tasks in Postgres by state; undefined without the postgres exporter. */
  readonly states: ReadonlyMap<string, number> | undefined;
  /** Where the rows are. */
  readonly database: string;
  /** What the sink got; undefined when metrics go to an agent of the user's, or without the datadog exporter. */
  readonly statsd: { readonly samples: number; readonly datagrams: number; readonly recentLines: readonly string[] } | undefined;
  readonly metricsGoTo: string | undefined;
  readonly dashboardUrl: string | undefined;
  readonly healthUrl: string;
  readonly logFile: string;
}
