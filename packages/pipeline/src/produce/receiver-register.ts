/** Which receivers share these queues and read the same queue of RabbitMQ: what tells them from another deployment's. */
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { receiversKey } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

export interface ReceiverRegisterOptions {
  /** A `producer` connection: a command fails at once when Redis is away. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  /** What the receivers read: those that read something else are counted apart. */
  readonly stream: string;
  /** A receiver that has not signed in for this long is gone. Default 2 min. */
  readonly ttlMs?: number;
}

const TTL_MS = 120_000;

/** KEYS: the register. ARGV: receiver, time to live. Answers how many receivers have signed in lately. By Redis' own clock. */
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
   * To be called more often than every `ttlMs`.
   *
   * @returns how many receivers there are, this one included.
   * @throws {UnavailableError} when Redis does not serve, or does not let us.
   */
  async signIn(): Promise<number> {
    return withRedis("counting the receivers", async () => Number(await this.#redis.eval(SIGN_IN, 1, this.#key, this.#id, this.#ttlMs)));
  }

  /** @throws {UnavailableError} when Redis does not serve. */
  async signOut(): Promise<void> {
    await withRedis("counting the receivers", () => this.#redis.zrem(this.#key, this.#id));
  }
}
