/** The check of a user name and password: in constant time, and a limited number of wrong ones a minute. */
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

/** Wrong logins a minute, of one address (of IPv6: of a /64 network) and of all together. */
const MAX_WRONG_PER_ADDRESS = 10;
const MAX_WRONG = 100;
const WINDOW_MS = 60_000;
/** How many addresses are remembered; those not heard of for longest are forgotten first. */
const MAX_ADDRESSES = 5_000;

/** Asks for the login at every request from now on, whether there is anything at the address or not. */
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
  /** Where the login was last right, so that somebody else's guesses do not lock out those who know it. */
  readonly #known = new Set<string>();

  constructor(expected: Credentials, limiters: readonly RateLimiter[], logger: Logger) {
    this.#expected = expected;
    this.#limiters = limiters;
    this.#logger = logger;
  }

  /** Past a limit no login is looked at, so that guessing does not get faster by ignoring the refusals. */
  async check({ username, password }: Credentials, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.#limit(request, reply);
    // Both are compared, whatever the first says.
    const isUser = isEqual(username, this.#expected.username);
    const isPassword = isEqual(password, this.#expected.password);
    if (isUser && isPassword) return this.#remember(request.ip);
    this.#known.delete(request.ip);
    for (const limiter of this.#limiters) await limiter(request);
    // Not even the user name: people type their password there.
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

/** Hashed first: `timingSafeEqual` wants equal lengths, and a length is a secret too. */
function isEqual(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
