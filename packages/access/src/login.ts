/** Checks a user name and password in constant time, and limits the wrong ones per minute. */
import basicAuth from "@fastify/basic-auth";
import rateLimit from "@fastify/rate-limit";
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { createHash, timingSafeEqual } from "node:crypto";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

type RateLimiter = ReturnType<FastifyInstance["createRateLimit"]>;

/** Maximum number of wrong logins a minute, from one address (IPv6: one /64 network) and in total. */
const MAX_WRONG_PER_ADDRESS = 10;
const MAX_WRONG = 100;
const WINDOW_MS = 60_000;
/** Number of addresses to remember; the least recently used ones are forgotten first. */
const MAX_ADDRESSES = 5_000;

/** Requires the login for every later request, even if nothing exists at the address. */
export async function addLogin(server: FastifyInstance, expected: Credentials, logger: Logger): Promise<void> {
  await server.register(rateLimit, { global: false, timeWindow: WINDOW_MS, cache: MAX_ADDRESSES, ipv6Subnet: 64 });
  const byAddress = server.createRateLimit({ max: MAX_WRONG_PER_ADDRESS });
  const together = server.createRateLimit({ max: MAX_WRONG, keyGenerator: () => "together" });
  const login = new Login(expected, [byAddress, together], logger);
  await server.register(basicAuth, {
    validate: (username, password, request, reply) => login.check({ username, password }, request, reply),
    authenticate: { realm: "celery-metrics-exporter" },
  });
  server.addHook("onRequest", server.basicAuth);
}

class Login {
  readonly #expected: Credentials;
  readonly #limiters: readonly RateLimiter[];
  readonly #logger: Logger;
  /** Addresses with a right login before, so that another client's guesses do not lock them out. */
  readonly #known = new Set<string>();

  constructor(expected: Credentials, limiters: readonly RateLimiter[], logger: Logger) {
    this.#expected = expected;
    this.#limiters = limiters;
    this.#logger = logger;
  }

  /** Beyond a limit no login is checked, so that ignoring the refusals does not speed up guessing. */
  async check({ username, password }: Credentials, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.#limit(request, reply);
    // Compares both, whatever the first result is.
    const isUser = isEqual(username, this.#expected.username);
    const isPassword = isEqual(password, this.#expected.password);
    if (isUser && isPassword) return this.#remember(request.ip);
    this.#known.delete(request.ip);
    for (const limiter of this.#limiters) await limiter(request);
    // Logs not even the user name: people type their password there.
    this.#logger.warn({ address: request.ip }, "wrong login for the dashboard");
    throw Object.assign(new Error("Wrong user name or password."), { statusCode: 401 });
  }

  async #limit(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const limiters = this.#known.has(request.ip) ? this.#limiters.slice(0, 1) : this.#limiters;
    for (const limiter of limiters) {
      const limit = await limiter(request, { increment: false });
      if (limit.isAllowed || limit.remaining > 0) continue;
      reply.header("retry-after", limit.ttlInSeconds);
      throw Object.assign(new Error(`Too many wrong logins, try again in ${limit.ttlInSeconds} s.`), { statusCode: 429 });
    }
  }

  #remember(address: string): void {
    this.#known.delete(address);
    this.#known.add(address);
    const [oldest] = this.#known;
    if (this.#known.size > MAX_ADDRESSES && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** Hashed first, because `timingSafeEqual` requires equal lengths and the length is secret too. */
function isEqual(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
