/** The Redis pub/sub channels that events arrive on (kombu/transport/redis.py, `_get_publish_topic`). */

export interface EventChannelsOptions {
  /** The database number in the broker URL. Pub/sub crosses databases: only this part of the name distinguishes them. */
  readonly db: number;
  /** Celery's `event_exchange`. Default `celeryev`. */
  readonly exchange?: string;
  /** The workers' transport option `fanout_prefix`: true (default) means `/{db}.`, false means none, a text replaces it (`{db}` is filled in). */
  readonly fanoutPrefix?: boolean | string;
  /** The workers' transport option `fanout_patterns`: whether the name contains the routing key. Absent: listen to both forms; no message arrives on both. */
  readonly fanoutPatterns?: boolean;
  /** The workers' transport option `global_keyprefix`, which precedes channels too since kombu 5.2.4. */
  readonly globalKeyprefix?: string;
  /** Also listen to the name with a literal `{db}`, which kombu before 5.4.0 uses behind Redis Sentinel. */
  readonly sentinel?: boolean;
}

export interface EventChannels {
  /** For PSUBSCRIBE. */
  readonly patterns: readonly string[];
  /** For SUBSCRIBE. */
  readonly channels: readonly string[];
}

const DEFAULT_PREFIX = "/{db}.";

/** The channels to subscribe to. They must match the workers' options: if they do not, Redis reports no error, and nothing arrives. */
export function eventChannels(options: EventChannelsOptions): EventChannels {
  const { db, exchange = "celeryev", fanoutPatterns, globalKeyprefix = "", sentinel = false } = options;
  const template = prefixTemplate(options.fanoutPrefix ?? true);
  const prefixes = new Set([formatDb(template, db)]);
  if (sentinel) prefixes.add(template);
  const channels = [...prefixes].map((prefix) => `${globalKeyprefix}${prefix}${exchange}`);
  return {
    patterns: fanoutPatterns === false ? [] : channels.map((channel) => `${escapeGlob(channel)}/*`),
    channels: fanoutPatterns === true ? [] : channels,
  };
}

function prefixTemplate(fanoutPrefix: boolean | string): string {
  if (typeof fanoutPrefix === "string") return fanoutPrefix;
  return fanoutPrefix ? DEFAULT_PREFIX : "";
}

/** Python's `template.format(db=db)`, in which `{{` and `}}` are escaped braces. */
function formatDb(template: string, db: number): string {
  return template.replaceAll(/\{\{|\}\}|\{db\}/g, (match) => (match === "{db}" ? String(db) : match.slice(1)));
}

/** The characters that are special in Redis' patterns (`stringmatchlen` in src/util.c). */
function escapeGlob(text: string): string {
  return text.replaceAll(/[\\*?[\]]/g, String.raw`\$&`);
}
