/** Settings of every role that connects to Celery's broker. */
import { ConfigError, aliased, flag, secret, type SentinelOptions } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { type BrokerUrl, parseBrokerUrl } from "./broker-url.ts";

const brokerUrl = z.string().superRefine((value, context) => {
  const parsed = parseBrokerUrl(value);
  if (!parsed.ok) context.addIssue({ code: "custom", message: parsed.problem });
});

export const BrokerConfig = z.object({
  CELERY_BROKER_URL: aliased(
    secret(brokerUrl).describe(
      "The broker URL that your Celery workers use: `amqp://`, `amqps://`, `pyamqp://`, `redis://`, `rediss://`, `redis+socket://`, `sentinel://`; several separated by `;`; `ssl_*` query settings for TLS; `login_method=EXTERNAL` to log in to RabbitMQ by client certificate.",
    ),
    { variable: "CE_BROKER_URL" },
    {
      variable: "CE_BROKER_TRANSPORT_OPTION",
      advice:
        "set CELERY_GLOBAL_KEYPREFIX, CELERY_FANOUT_PREFIX, CELERY_FANOUT_PATTERNS, CELERY_SENTINEL_MASTER_NAME, CELERY_SENTINEL_PASSWORD and CELERY_PRIORITY_STEPS instead, for those of the options that your workers have",
    },
    {
      variable: "CE_BROKER_SSL_OPTION",
      advice: "write these options into CELERY_BROKER_URL, as in ?ssl_ca_certs=/ca.pem&ssl_certfile=/client.pem",
    },
    { variable: "CE_ACCEPT_CONTENT", advice: "it is not needed, because json, msgpack and yaml are read, and pickle never is" },
    { variable: "CE_RETRY_INTERVAL", advice: "it is not needed, because a lost connection is opened again for as long as it takes" },
  ),
  CELERY_GLOBAL_KEYPREFIX: z.string().default("").describe("Redis: the workers' transport option `global_keyprefix`."),
  CELERY_FANOUT_PREFIX: z
    .string()
    .default("true")
    .describe("Redis: the workers' transport option `fanout_prefix`: `true`, `false`, or a prefix such as `/{db}.`."),
  CELERY_SENTINEL_MASTER_NAME: z
    .string()
    .min(1)
    .default("mymaster")
    .describe("Redis Sentinel: the workers' transport option `master_name`."),
  CELERY_SENTINEL_PASSWORD: secret(z.string().optional()).describe(
    "Redis Sentinel: password of the sentinels. The password in CELERY_BROKER_URL is for Redis.",
  ),
  CELERY_SENTINEL_TLS: flag(false).describe(
    "Redis Sentinel: whether the sentinels use TLS too, with the `ssl_*` settings of CELERY_BROKER_URL.",
  ),
});
export type BrokerConfig = z.output<typeof BrokerConfig>;

/** @throws {ConfigError} never for a loaded configuration, because `BrokerConfig` has parsed the URL before. */
export function brokerOf(config: BrokerConfig): BrokerUrl {
  const parsed = parseBrokerUrl(config.CELERY_BROKER_URL);
  if (!parsed.ok) throw new ConfigError([`CELERY_BROKER_URL: ${parsed.problem}`]);
  return parsed.url;
}

export function sentinelOptionsOf(config: BrokerConfig): SentinelOptions {
  return {
    masterName: config.CELERY_SENTINEL_MASTER_NAME,
    ...(config.CELERY_SENTINEL_PASSWORD === undefined ? {} : { password: config.CELERY_SENTINEL_PASSWORD }),
    tls: config.CELERY_SENTINEL_TLS,
  };
}

/** As `eventChannels` takes it. */
export function fanoutPrefixOf({ CELERY_FANOUT_PREFIX: text }: BrokerConfig): boolean | string {
  if (/^true$/i.test(text)) return true;
  return /^false$/i.test(text) ? false : text;
}
