export { abortable } from "./abortable.ts";
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
} from "./config.ts";
export { configWarnings, type ConfigWarning } from "./config-warnings.ts";
export { processEnvironment } from "./environment.ts";
export {
  CodedError,
  ConfigError,
  EXIT_CONFIG,
  EXIT_FAILURE,
  EXIT_UNAVAILABLE,
  TimedOutError,
  UnavailableError,
  toError,
} from "./errors.ts";
export { Health, type ComponentHealth, type HealthReport } from "./health.ts";
export { createHttpServer, type HttpServer } from "./http.ts";
export { Lifecycle } from "./lifecycle.ts";
export { isTextFormat, standardOutput, type LogFormat, type LogOutput } from "./log-output.ts";
export { createLogger, type Logger } from "./logger.ts";
export { editDistance, nearest } from "./nearest.ts";
export { METRIC_PREFIX, Metrics } from "./metrics.ts";
export { OutageLog, type OutageFields, type OutageLogOptions } from "./outage-log.ts";
export { connectRedis, type ConnectRedisOptions } from "./redis.ts";
export { mastersOf, type RedisConnection } from "./redis-connection.ts";
export { warnIfNotDurable } from "./redis-durability.ts";
export type { RedisUse } from "./redis-policy.ts";
export { isOtherProtocol, redisProblem, redisReply } from "./redis-problem.ts";
export { redactUrl } from "./redact-url.ts";
export { RedisConfig, redisTarget } from "./redis-config.ts";
export { redisAddress, redisServerOf, type RedisTarget, type SentinelOptions } from "./redis-address.ts";
export { tellSentinelErrors } from "./sentinel-errors.ts";
export {
  behindSentinels,
  parseRedisServer,
  parseRedisUrl,
  withoutUnknownSettings,
  type ParsedRedisUrl,
  type RedisServer,
} from "./redis-url.ts";
export { defineRole, type Role, type RoleContext } from "./role.ts";
export { loadConfigs } from "./role-configs.ts";
export { runRole, runRoles, startRoles, type RunningRoles } from "./run-roles.ts";
export { sendTogether } from "./send-together.ts";
export { exitOnSignals, exitWith, failAtEnd } from "./signals.ts";
export { resetHint, tlsProblem, toTlsOptions, type TlsContext, type TlsOptions } from "./tls-options.ts";
export { KOMBU_TLS_NAMES, parseTlsSettings, type ParsedTlsSettings, type TlsSettingNames, type TlsSettings } from "./tls-settings.ts";
export { SETTING_NAMES } from "./setting-names.ts";
export { parseUrlParts, type ParsedUrlParts, type UrlParts } from "./url-parts.ts";
export { createWebServer, listen, type HttpLimits, type ListenOptions, type WebServerOptions } from "./web-server.ts";
