/** Counts the receivers that share these queues and read the same RabbitMQ queue, to distinguish them from those of another deployment. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { receiversKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface ReceiverRegisterOptions {
  /** A `producer` connection: a command fails at once if Redis is unavailable. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** Names what the receivers read. Receivers that read something else are counted separately. */
  readonly stream: string;
  /** How long after its last sign-in a receiver counts as gone. Default 2 min. */
  readonly ttlMs?: number;
}

const TTL_MS = 120_000;

/**
 * KEYS: the register. ARGV: the receiver; the time to live. Replies with the number of receivers that signed in lately, by Redis' own
 * clock.
 */
const SIGN_IN = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local gone = now - tonumber(ARGV[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', gone, 'LIMIT', 0, 100)) do redis.call('ZREM', KEYS[1], id) end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
`;

export class ReceiverRegister {
  readonly #redis: RedisConnection;
  readonly #key: string;
  readonly #ttlMs: number;
  readonly #id = randomUUID();

  constructor({ redis, prefix, stream, ttlMs = TTL_MS }: ReceiverRegisterOptions) {
    this.#redis = redis;
    this.#key = `${receiversKey(prefix, stream)}:all`;
    this.#ttlMs = ttlMs;
  }

  /**
   * Must be called more often than every `ttlMs`.
   *
   * @returns the number of receivers, including this one.
   * @throws {UnavailableError} if Redis is unavailable or denies permission.
   */
  async signIn(): Promise<number> {
    return withRedis("counting the receivers", async () => Number(await this.#redis.eval(SIGN_IN, 1, this.#key, this.#id, this.#ttlMs)));
  }

  /** @throws {UnavailableError} if Redis is unavailable. */
  async signOut(): Promise<void> {
    await withRedis("counting the receivers", () => this.#redis.zrem(this.#key, this.#id));
  }
}
