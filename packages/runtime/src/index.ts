export { abortable } from "./abortable.ts";
export { Repeat } from "./repeat.ts";
export { retry } from "./retry.ts";
export { backoffMs, pause, type BackoffOptions } from "./backoff.ts";
export {
  BaseConfig,
  describeConfig,
  MAX_TIMER_MS,
  duration,
  flag,
  integer,
  list,
  loadConfig,
  readSetting,
  redactConfig,
  secret,
  url,
  type ConfigSchema,
  type Environment,
  type SettingDescription,
} from "./config/config.ts";
export { configWarnings, type ConfigWarning } from "./config/warnings.ts";
export { processEnvironment } from "./config/environment.ts";
export {
  CodedError,
  ConfigError,
  PermanentError,
  EXIT_CONFIG,
  EXIT_FAILURE,
  EXIT_UNAVAILABLE,
  TimedOutError,
  UnavailableError,
  toError,
} from "./errors.ts";
export { Health, type ComponentHealth, type HealthReport } from "./process/health.ts";
export { createHttpServer, type HttpServer } from "./process/health.ts";
export { Lifecycle } from "./process/lifecycle.ts";
export { isTextFormat, standardOutput, type LogFormat, type LogOutput } from "./log/logger.ts";
export { createLogger, type Logger } from "./log/logger.ts";
export { editDistance, nearest } from "./config/misspelling.ts";
export { METRIC_PREFIX, Metrics } from "./process/metrics.ts";
export { Outage } from "./outage.ts";
export { connectRedis, type ConnectRedisOptions } from "./redis/redis.ts";
export { mastersOf, type RedisConnection } from "./redis/connection.ts";
export { warnIfNotDurable } from "./redis/advice.ts";
export type { RedisUse } from "./redis/policy.ts";
export { isOtherProtocol, isOutOfMemory, isRedisAway, redisProblem, redisUnavailable } from "./redis/failure.ts";
export { redactUrl } from "./config/url.ts";
export { RedisConfig, redisTarget } from "./redis/policy.ts";
export { redisAddress, redisServerOf, type RedisTarget, type SentinelOptions } from "./redis/address.ts";
export { tellSentinelErrors } from "./redis/strict-redis.ts";
export {
  behindSentinels,
  parseRedisServer,
  parseRedisUrl,
  withoutUnknownSettings,
  type ParsedRedisUrl,
  type RedisServer,
} from "./redis/redis-url.ts";
export { defineRole, type Role, type RoleContext } from "./process/role.ts";
export { loadConfigs } from "./process/role.ts";
export { runRole, runRoles, startRoles, type RunningRoles } from "./process/run-roles.ts";
export { sendTogether } from "./redis/connection.ts";
export { exitOnSignals, exitWith, failAtEnd } from "./process/signals.ts";
export { resetHint, tlsProblem, toTlsOptions, type TlsContext, type TlsOptions } from "./tls/tls.ts";
export { KOMBU_TLS_NAMES, parseTlsSettings, type ParsedTlsSettings, type TlsSettingNames, type TlsSettings } from "./tls/tls.ts";
export { SETTING_NAMES } from "./config/setting-names.ts";
export { parseUrlParts, type ParsedUrlParts, type UrlParts } from "./config/url.ts";
export { createWebServer, listen, type HttpLimits, type ListenOptions, type WebServerOptions } from "./web/web-server.ts";
