/** The Redis pub/sub channels that events arrive on (kombu/transport/redis.py, `_get_publish_topic`). */

export interface EventChannelsOptions {
  /** The database number of the broker URL. Pub/sub crosses databases: only this part of the name tells them apart. */
  readonly db: number;
  /** Celery's `event_exchange`. Default `celeryev`. */
  readonly exchange?: string;
  /** Transport option `fanout_prefix` of the workers: true (default) is `/{db}.`, false is none, a text replaces it (`{db}` is filled in). */
  readonly fanoutPrefix?: boolean | string;
  /** Transport option `fanout_patterns` of the workers: whether the routing key is part of the name. Absent: listen to both forms, as no message comes on two. */
  readonly fanoutPatterns?: boolean;
  /** Transport option `global_keyprefix`: in front of channels too since kombu 5.2.4. */
  readonly globalKeyprefix?: string;
  /** Also listen to the name with a literal `{db}` that kombu before 5.4.0 uses behind Redis Sentinel. */
  readonly sentinel?: boolean;
}

export interface EventChannels {
  /** For PSUBSCRIBE. */
  readonly patterns: readonly string[];
  /** For SUBSCRIBE. */
  readonly channels: readonly string[];
}

const DEFAULT_PREFIX = "/{db}.";

/** What to subscribe to. It must match the workers' options: Redis reports no error where it does not, there is only silence. */
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

/** Python's `template.format(db=db)`, in which `{{` and `}}` stand for braces. */
function formatDb(template: string, db: number): string {
  return template.replaceAll(/\{\{|\}\}|\{db\}/g, (match) => (match === "{db}" ? String(db) : match.slice(1)));
}

/** The characters that are special in Redis' patterns (`stringmatchlen` in src/util.c). */
function escapeGlob(text: string): string {
  return text.replaceAll(/[\\*?[\]]/g, String.raw`\$&`);
}
