/** What the help of the program, and of `start`, begins with. */
import { DECIDED_DEFAULTS } from "./defaults/shown-defaults.ts";

export interface FirstSetting {
  readonly name: string;
  readonly description: string;
}

/** Passwords are in variables: options are visible to other users of the machine. */
export const EXAMPLE = `Example:
  export CELERY_BROKER_URL=amqp://user:password@rabbitmq.example.com:5672//
  celery-metrics-exporter start           # in a checkout: pnpm start`;

/** The settings people need first, as the single process takes them. */
export const FIRST_SETTINGS: readonly FirstSetting[] = [
  { name: "CELERY_BROKER_URL", description: "The broker of your Celery workers, as in their configuration. Required." },
  { name: "REDIS_URL", description: `Redis for our queues. Default: ${DECIDED_DEFAULTS["REDIS_URL"]}` },
  { name: "DATABASE_URL", description: "PostgreSQL for the rows. Default: an embedded one in ./.data/pglite" },
  { name: "EXPORTERS", description: `datadog, postgres or both. Default: ${DECIDED_DEFAULTS["EXPORTERS"]}` },
  { name: "DD_AGENT_HOST", description: "Host of the Datadog agent. Default: 127.0.0.1" },
];
