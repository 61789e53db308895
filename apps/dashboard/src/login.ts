/** The check of a user name and password: in constant time, and a limited number of wrong ones a minute. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { createHash, timingSafeEqual } from "node:crypto";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

type RateLimiter = ReturnType<FastifyInstance["createRateLimit"]>;
type Login = (username: string, password: string, request: FastifyRequest) => Promise<void>;

/**
 * What `@fastify/basic-auth` calls with each login. The limiter counts wrong ones by address; past its maximum none is looked at, so that
 * guessing does not get faster by ignoring the refusals.
 */
export function createLogin(expected: Credentials, limiter: RateLimiter): Login {
  return async (username, password, request) => {
    const limit = await limiter(request, { increment: false });
    if (!limit.isAllowed && limit.remaining === 0) {
      throw Object.assign(new Error(`Too many wrong logins, try again in ${limit.ttlInSeconds} s.`), { statusCode: 429 });
    }
    // Both are compared, whatever the first says.
    const isUser = isEqual(username, expected.username);
    const isPassword = isEqual(password, expected.password);
    if (isUser && isPassword) return;
    await limiter(request);
    throw Object.assign(new Error("Wrong user name or password."), { statusCode: 401 });
  };
}

/** Hashed first: `timingSafeEqual` wants equal lengths, and a length is a secret too. */
function isEqual(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
