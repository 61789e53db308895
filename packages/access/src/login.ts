/** Asks for a login, and limits the wrong ones per minute. */
import basicAuth from "@fastify/basic-auth";
import rateLimit from "@fastify/rate-limit";
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { createHash, timingSafeEqual } from "node:crypto";
import { refusal } from "./admission.ts";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface LoginOptions<U> {
  /** The user with these credentials; undefined if they are wrong. Must take as long for a wrong user name as for a wrong password. */
  readonly identify: (credentials: Credentials) => Promise<U | undefined>;
  /** The user with this API token (`Authorization: Bearer …`). Without it, tokens are not accepted. */
  readonly identifyToken?: (token: string) => U | undefined;
  /** The user of a request that was authenticated otherwise: by a proxy, or by an earlier login. Such a request needs no login. */
  readonly recognize?: (request: FastifyRequest) => Promise<U | undefined>;
  /** Whether a request is answered to anyone, such as one that begins a login. */
  readonly isPublic?: (request: FastifyRequest) => boolean;
  /** Where a browser without a login is sent to, if not asked for a password. */
  readonly loginPage?: (request: FastifyRequest) => string | undefined;
  /** Called for each request with a right login. */
  readonly onUser?: (request: FastifyRequest, user: U) => void;
  /** What the login is for, in the log: `the dashboard`. */
  readonly site: string;
  readonly logger: Logger;
}

type RateLimiter = ReturnType<FastifyInstance["createRateLimit"]>;

/** Maximum number of wrong logins a minute, from one address (IPv6: one /64 network) and in total. */
const MAX_WRONG_PER_ADDRESS = 10;
const MAX_WRONG = 100;
const WINDOW_MS = 60_000;
/** Number of addresses to remember; the least recently used ones are forgotten first. */
const MAX_ADDRESSES = 5_000;

const REALM = "celery-metrics-exporter";
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i;

/** Requires the login for every later request, even if nothing exists at the address. */
export async function addLogin<U>(server: FastifyInstance, options: LoginOptions<U>): Promise<void> {
  await server.register(rateLimit, { global: false, timeWindow: WINDOW_MS, cache: MAX_ADDRESSES, ipv6Subnet: 64 });
  const byAddress = server.createRateLimit({ max: MAX_WRONG_PER_ADDRESS });
  const together = server.createRateLimit({ max: MAX_WRONG, keyGenerator: () => "together" });
  const login = new Login(options, [byAddress, together]);
  await server.register(basicAuth, {
    validate: (username, password, request, reply) => login.check(() => options.identify({ username, password }), request, reply),
    authenticate: { realm: REALM },
  });
  const { identifyToken, recognize, isPublic, loginPage, onUser } = options;
  const byPassword = (request: FastifyRequest, reply: FastifyReply): Promise<void> =>
    new Promise((resolve, reject) => server.basicAuth(request, reply, (error) => (error === undefined ? resolve() : reject(error))));
  server.addHook("onRequest", async (request, reply) => {
    if (isPublic?.(request) === true) return;
    const known = await recognize?.(request);
    if (known !== undefined) {
      onUser?.(request, known);
      return;
    }
    if (request.headers.authorization === undefined) {
      const page = loginPage?.(request);
      if (page !== undefined) return reply.redirect(page);
      if (loginPage !== undefined && isScript(request)) {
        // A browser asks for a password, in the middle of a page, if it is offered `Basic`.
        reply.header("www-authenticate", `Bearer realm="${REALM}"`);
        throw refusal(401, "You are not logged in, or no longer. Reload the page.");
      }
    }
    const token = BEARER.exec(request.headers.authorization ?? "")?.[1];
    if (token === undefined || identifyToken === undefined) await byPassword(request, reply);
    else await login.check(async () => identifyToken(token), request, reply);
  });
}

export interface FailureLimit {
  /** @throws {Error} with the status 429 if this address has failed too often. */
  check(request: FastifyRequest, reply: FastifyReply): Promise<void>;
  failed(request: FastifyRequest): Promise<void>;
}

/** Limits the failures a minute of another kind of login, from one address. Call it after `addLogin`. */
export function limitFailures(server: FastifyInstance, max: number): FailureLimit {
  const limiter = server.createRateLimit({ max });
  return {
    check: (request, reply) => refuseBeyond(limiter, request, reply),
    failed: async (request) => void (await limiter(request)),
  };
}

async function refuseBeyond(limiter: RateLimiter, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const limit = await limiter(request, { increment: false });
  if (limit.isAllowed || limit.remaining > 0) return;
  reply.header("retry-after", limit.ttlInSeconds);
  throw refusal(429, `Too many wrong logins, try again in ${limit.ttlInSeconds} s.`);
}

/** Whether a script of a page asks. Browsers say so over HTTPS and from loopback. */
function isScript({ headers }: FastifyRequest): boolean {
  return headers["sec-fetch-site"] !== undefined && headers["sec-fetch-mode"] !== "navigate";
}

class Login<U> {
  readonly #options: LoginOptions<U>;
  readonly #limiters: readonly RateLimiter[];
  /** Addresses with a right login before, so that another client's guesses do not lock them out. */
  readonly #known = new Set<string>();
  #turn: Promise<void> = Promise.resolve();

  constructor(options: LoginOptions<U>, limiters: readonly RateLimiter[]) {
    this.#options = options;
    this.#limiters = limiters;
  }

  /** Checks one login after the other: otherwise guesses that arrive together would all be checked before the first is counted. */
  check(identify: () => Promise<U | undefined>, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const checked = this.#turn.then(() => this.#checkInTurn(identify, request, reply));
    this.#turn = checked.catch(() => {});
    return checked;
  }

  /** Beyond a limit no login is checked, so that ignoring the refusals does not speed up guessing. */
  async #checkInTurn(identify: () => Promise<U | undefined>, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await this.#limit(request, reply);
    const user = await identify();
    if (user !== undefined) {
      this.#remember(request.ip);
      this.#options.onUser?.(request, user);
      return;
    }
    this.#known.delete(request.ip);
    for (const limiter of this.#limiters) await limiter(request);
    // Logs not even the user name: people type their password there.
    this.#options.logger.warn({ address: request.ip }, `wrong login for ${this.#options.site}`);
    throw refusal(401, "Wrong user name or password.");
  }

  async #limit(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const limiters = this.#known.has(request.ip) ? this.#limiters.slice(0, 1) : this.#limiters;
    for (const limiter of limiters) await refuseBeyond(limiter, request, reply);
  }

  #remember(address: string): void {
    this.#known.delete(address);
    this.#known.add(address);
    const [oldest] = this.#known;
    if (this.#known.size > MAX_ADDRESSES && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** Compares in constant time. Hashes first, because `timingSafeEqual` requires equal lengths and the length is secret too. */
export function isEqual(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
