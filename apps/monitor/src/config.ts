/** The monitor's settings. */
import { BrokerConfig, describeBroker, fanoutPrefixOf, brokerOf, type RedisQueueOptions } from "@celery-metrics-exporter/broker";
import type { ControlOptions } from "@celery-metrics-exporter/control";
import { BaseConfig, aliased, deploymentId, duration, flag, list } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

/** Celery's own default is 0,3,6,9. A list that does not exist costs almost nothing, so any steps up to 9 are counted. */
const steps = list("0,1,2,3,4,5,6,7,8,9")
  .refine((values) => values.length > 0 && values.every((value) => /^\d{1,3}$/.test(value)), "must be whole numbers, separated by commas")
  .transform((values) => values.map(Number));

/** `\x06` and the like, because a variable cannot contain every character. */
const separator = z
  .string()
  .min(1)
  .default(String.raw`\x06\x16`)
  .transform((text) => text.replaceAll(/\\x([\da-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))));

export const Config = BaseConfig.extend({
  ...BrokerConfig.shape,
  MONITOR_QUEUES: aliased(
    list().describe(
      "Comma-separated names of Celery's queues. The monitor also finds the queues of `task-sent` events and, unless `MONITOR_INSPECT=false`, those from which workers consume. It remembers them for 30 days.",
    ),
    { variable: "CE_QUEUES" },
  ),
  MONITOR_INTERVAL_SECONDS: duration("wait seconds", 15, { min: 1 }).describe("Interval at which the lengths of Celery's queues are read."),
  MONITOR_INSPECT: flag(true).describe(
    "Ask the workers for their queues and processes, by Celery's remote control. `false`: the monitor never publishes to the broker.",
  ),
  MONITOR_INSPECT_INTERVAL_SECONDS: duration("wait seconds", 60, { min: 1 }).describe("Interval at which the workers are asked."),
  MONITOR_INSPECT_TIMEOUT_MS: duration("wait ms", 1_000, { min: 10, max: 60_000 }).describe(
    "How long the monitor waits for replies from the workers. With Redis, it stops waiting as soon as all have replied.",
  ),
  CELERY_ENABLE_EVENTS: flag(false).describe(
    "With each question to the workers, switch on the task events of those that run without `-E` and `worker_send_task_events`. Requires `MONITOR_INSPECT`.",
  ),
  CELERY_CONTROL_EXCHANGE: z.string().min(1).default("celery").describe("Celery's `control_exchange`."),
  CELERY_CONTROL_SERIALIZER: z
    .enum(["json", "msgpack"])
    .default("json")
    .describe("Serializer of the monitor's requests. The workers must accept it (`accept_content`)."),
  CELERY_PRIORITY_STEPS: steps.describe(
    "Redis: the priorities whose lists are counted. Set it only if your transport option `priority_steps` has steps above 9.",
  ),
  CELERY_PRIORITY_SEPARATOR: separator.describe(
    String.raw`Redis: the workers' transport option ${"`sep`"}, with ${"`\\x06`"} for the character with that code.`,
  ),
  CELERY_UNACKED_KEY: z.string().min(1).default("unacked").describe("Redis: the workers' transport option `unacked_key`."),
  CELERY_UNACKED_INDEX_KEY: z
    .string()
    .min(1)
    .default("unacked_index")
    .describe("Redis: the workers' transport option `unacked_index_key`."),
});
export type Config = z.output<typeof Config>;

export function redisQueueOptions(config: Config): RedisQueueOptions {
  return {
    keyPrefix: config.CELERY_GLOBAL_KEYPREFIX,
    prioritySteps: config.CELERY_PRIORITY_STEPS,
    prioritySeparator: config.CELERY_PRIORITY_SEPARATOR,
    unackedKey: config.CELERY_UNACKED_KEY,
    unackedIndexKey: config.CELERY_UNACKED_INDEX_KEY,
  };
}

/** Names of what the monitor creates on the broker begin with this, for permissions. */
const OWN_NAMES = "cme-monitor";

export function controlOptions(config: Config): ControlOptions {
  return {
    controlExchange: config.CELERY_CONTROL_EXCHANGE,
    serializer: config.CELERY_CONTROL_SERIALIZER,
    deployment: `${OWN_NAMES}-${deploymentId(config)}`,
    keyPrefix: config.CELERY_GLOBAL_KEYPREFIX,
    fanoutPrefix: fanoutPrefixOf(config),
    replyQueuePrefix: OWN_NAMES,
  };
}

/** Names what the monitor watches, equally in every monitor of it. */
export function watched(config: Config): string {
  const { CELERY_GLOBAL_KEYPREFIX: prefix, CELERY_CONTROL_EXCHANGE: exchange } = config;
  return `${describeBroker(brokerOf(config))}, exchange ${exchange}${prefix === "" ? "" : `, prefix ${prefix}`}`;
}
