/** Sessions in cookies, which only this server can read and write. Nothing is stored, so several servers with the same secret share them. */
import type { CookieSerializeOptions } from "@fastify/cookie";
import type { FastifyReply, FastifyRequest } from "fastify";
import { EncryptJWT, jwtDecrypt } from "jose";
import { hkdfSync } from "node:crypto";
import { z } from "zod";
import { USER_ROLES, type User } from "./user.ts";

const SESSION_SECONDS = 8 * 3_600;
/** How long a login may take. */
const LOGIN_SECONDS = 600;

const StoredUser = z.object({ name: z.string(), role: z.enum(USER_ROLES) });

/** A login that has begun and not ended. */
const StoredLogin = z.object({
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  /** Where to go afterwards: an address of ours. */
  to: z.string(),
});
export type StoredLogin = z.output<typeof StoredLogin>;

/** What a cookie is for; one cannot be used as the other. */
type Purpose = "session" | "login";

export interface SessionsOptions {
  /** Whoever knows it can make sessions. */
  readonly secret: string;
  /** Distinguishes this use of the secret from others. */
  readonly context: string;
  /** Where the browser sees us, with a slash at the end. */
  readonly base: URL;
}

export class Sessions {
  readonly #key: Uint8Array;
  readonly #cookie: CookieSerializeOptions;
  readonly #prefix: string;

  constructor({ secret, context, base }: SessionsOptions) {
    this.#key = new Uint8Array(hkdfSync("sha256", secret, context, "celery-metrics-exporter session", 32));
    const secure = base.protocol === "https:";
    this.#cookie = { httpOnly: true, sameSite: "lax", secure, path: base.pathname };
    // A browser takes a cookie with this prefix only over HTTPS.
    this.#prefix = secure ? "__Secure-cme-" : "cme-";
  }

  async user(request: FastifyRequest): Promise<User | undefined> {
    const user = StoredUser.safeParse(await this.#read(request, "session"));
    return user.success ? { ...user.data, hasSession: true } : undefined;
  }

  async begin(reply: FastifyReply, { name, role }: User): Promise<void> {
    await this.#write(reply, "session", { name, role }, SESSION_SECONDS);
  }

  async login(request: FastifyRequest): Promise<StoredLogin | undefined> {
    return StoredLogin.safeParse(await this.#read(request, "login")).data;
  }

  async beginLogin(reply: FastifyReply, login: StoredLogin): Promise<void> {
    await this.#write(reply, "login", login, LOGIN_SECONDS);
  }

  /** Tells the browser to forget the cookie. */
  end(reply: FastifyReply, purpose: Purpose): void {
    reply.clearCookie(this.#prefix + purpose, this.#cookie);
  }

  async #write(reply: FastifyReply, purpose: Purpose, content: Readonly<Record<string, string>>, seconds: number): Promise<void> {
    const sealed = await new EncryptJWT(content)
      .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
      .setAudience(purpose)
      .setExpirationTime(`${seconds} s`)
      .encrypt(this.#key);
    reply.setCookie(this.#prefix + purpose, sealed, { ...this.#cookie, maxAge: seconds });
  }

  async #read(request: FastifyRequest, purpose: Purpose): Promise<unknown> {
    const sealed = request.cookies[this.#prefix + purpose];
    if (sealed === undefined) return undefined;
    try {
      const { payload } = await jwtDecrypt(sealed, this.#key, {
        audience: purpose,
        requiredClaims: ["exp"],
        keyManagementAlgorithms: ["dir"],
        contentEncryptionAlgorithms: ["A256GCM"],
      });
      return payload;
    } catch {
      return undefined;
    }
  }
}
