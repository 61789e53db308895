export { abortable } from "./retry.ts";
export { backoffMs, type BackoffOptions, pause } from "./retry.ts";
export { type Alias, type Aliased, aliased, type AliasReport, isSet, type Obsolete, reportAliases, withAliases } from "./config/aliases.ts";
export {
  BaseConfig,
  type ConfigSchema,
  describeConfig,
  duration,
  type Environment,
  flag,
  integer,
  wholeNumber,
  list,
  loadConfig,
  MAX_AGE_SECONDS,
  MAX_TIMER_MS,
  MAX_WAIT_SECONDS,
  readSetting,
  redactConfig,
  secret,
  type SettingDescription,
  url,
} from "./config/config.ts";
export { processEnvironment } from "./config/environment.ts";
export { editDistance, nearest } from "./config/misspelling.ts";
export { SETTING_NAMES } from "./config/setting-names.ts";
export { type ParsedUrlParts, parseUrlParts, redactUrl, type UrlParts } from "./config/url.ts";
export { type ConfigWarning, configWarnings } from "./config/warnings.ts";
export {
  CodedError,
  ConfigError,
  EXIT_CONFIG,
  EXIT_FAILURE,
  EXIT_UNAVAILABLE,
  PermanentError,
  TimedOutError,
  toError,
  UnavailableError,
} from "./errors.ts";
export { createLogger, isTextFormat, type LogFormat, type Logger, type LogOutput, standardOutput } from "./log/logger.ts";
export { Outage } from "./outage.ts";
export {
  type ComponentHealth,
  createHttpServer,
  Health,
  type HealthReport,
  type HttpServer,
  SHARED_HEALTH_PORT,
} from "./process/health.ts";
export { Lifecycle } from "./process/lifecycle.ts";
export { METRIC_PREFIX, Metrics } from "./process/metrics.ts";
export { defineRole, loadConfigs, type Role, type RoleContext } from "./process/role.ts";
export { type RunningRoles, runRole, runRoles, startRoles } from "./process/run-roles.ts";
export { exitOnSignals, exitWith, failAtEnd } from "./process/signals.ts";
export { redisAddress, redisServerOf, type RedisTarget, type SentinelOptions } from "./redis/address.ts";
export { warnIfNotDurable } from "./redis/advice.ts";
export { isCluster, mastersOf, type RedisConnection, sendTogether } from "./redis/connection.ts";
export { isOtherProtocol, isOutOfMemory, isRedisAway, onRedis, redisProblem, redisUnavailable } from "./redis/failure.ts";
export { deploymentId, RedisConfig, redisTarget, type RedisUse } from "./redis/policy.ts";
export {
  behindSentinels,
  type ParsedRedisUrl,
  parseRedisServer,
  parseRedisUrl,
  type RedisServer,
  withoutUnknownSettings,
} from "./redis/redis-url.ts";
export { connectRedis, openRedis, type ConnectRedisOptions } from "./redis/redis.ts";
export { tellSentinelErrors } from "./redis/strict-redis.ts";
export { Repeat } from "./repeat.ts";
export { retry } from "./retry.ts";
export {
  KOMBU_TLS_NAMES,
  type ParsedTlsSettings,
  parseTlsSettings,
  resetHint,
  type TlsContext,
  type TlsOptions,
  tlsProblem,
  type TlsSettingNames,
  type TlsSettings,
  toTlsOptions,
} from "./tls/tls.ts";
export { createWebServer, type HttpLimits, listen, type ListenOptions, type WebServerOptions } from "./web/web-server.ts";
