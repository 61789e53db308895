/** The users of the API, what they may do, and how their passwords and tokens are stored. */
import { isEqual, type Credentials } from "@celery-metrics-exporter/access";
import { toError } from "@celery-metrics-exporter/runtime";
import { createHash, createHmac, randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from "node:crypto";

/**
 * From least to most; each may do what those before it may. A `viewer` sees no data of tasks: arguments, results, exceptions, tracebacks. A `reader`
 * sees everything. An `operator` may act on tasks and workers, an `admin` may do everything.
 */
export const USER_ROLES = ["viewer", "reader", "operator", "admin"] as const;
export type UserRole = (typeof USER_ROLES)[number];

export interface User {
  readonly name: string;
  readonly role: UserRole;
  /** Whether the user can log out: a browser keeps sending a password, and a proxy its header. */
  readonly hasSession?: true;
}

/** Whether `role` may do what requires `needed`. */
export function includesRole(role: UserRole, needed: UserRole): boolean {
  return USER_ROLES.indexOf(role) >= USER_ROLES.indexOf(needed);
}

/** Whether the user may see the data of tasks. */
export function maySeeData({ role }: User): boolean {
  return includesRole(role, "reader");
}

export interface StoredUser extends User {
  /** `scrypt$N$r$p$salt$key`; salt and key in base64url. */
  readonly passwordHash: string;
}

export interface StoredToken extends User {
  /** `sha256$digest`, in base64url. */
  readonly tokenHash: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

const SCRYPT = /^scrypt\$(\d+)\$(\d+)\$(\d+)\$([\w-]+)\$([\w-]+)$/;
const TOKEN_HASH = /^sha256\$[\w-]{43}$/;

/** `name:role:scrypt$…`, separated by commas or blanks. @throws {Error} with the problem, without anything of the entry. */
export function parseUsers(text: string): StoredUser[] {
  return entriesOf(text, ([name = "", role = "", passwordHash = ""]) => {
    const user = toUser(name, role);
    if (!SCRYPT.test(passwordHash)) throw new Error("must end with the hash of a password: run celery-metrics-exporter user");
    return { ...user, passwordHash };
  });
}

/** `name:role:expiry:sha256$…`, separated by commas or blanks; the expiry is a day. @throws {Error} with the problem, without anything of the entry. */
export function parseTokens(text: string): StoredToken[] {
  return entriesOf(text, ([name = "", role = "", expiry = "", tokenHash = ""]) => {
    const user = toUser(name, role);
    const expiresAt = /^\d{4}-\d\d-\d\d$/.test(expiry) ? Date.parse(`${expiry}T00:00:00Z`) : Number.NaN;
    if (Number.isNaN(expiresAt)) throw new Error("must have a day on which it expires after the role, such as 2027-01-31");
    if (!TOKEN_HASH.test(tokenHash)) throw new Error("must end with the hash of a token: run celery-metrics-exporter user --token");
    return { ...user, tokenHash, expiresAt };
  });
}

function entriesOf<T>(text: string, parse: (parts: readonly string[]) => T): T[] {
  const entries = text.split(/[\s,]+/).filter((entry) => entry !== "");
  return entries.map((entry, index) => {
    try {
      return parse(entry.split(":"));
    } catch (thrown) {
      throw new Error(`entry ${index + 1} ${toError(thrown).message}`, { cause: thrown });
    }
  });
}

function toUser(name: string, role: string): User {
  const known = USER_ROLES.find((one) => one === role);
  if (name === "" || known === undefined)
    throw new Error(`must begin with a name and a role: name:role:… with one of ${USER_ROLES.join(", ")}`);
  return { name, role: known };
}

const COST = { N: 16_384, r: 8, p: 1 };
const KEY_BYTES = 32;

/** The hash of a password, for `WEB_USERS`. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, COST);
  return ["scrypt", COST.N, COST.r, COST.p, salt.toString("base64url"), key.toString("base64url")].join("$");
}

/** A new token and its hash, for `WEB_TOKENS`. */
export function createToken(): { readonly token: string; readonly tokenHash: string } {
  const token = `cme_${randomBytes(32).toString("base64url")}`;
  return { token, tokenHash: hashToken(token) };
}

/** A token has 256 random bits, so no slow hash is needed. */
function hashToken(token: string): string {
  return `sha256$${createHash("sha256").update(token).digest("base64url")}`;
}

async function isPassword(given: string, passwordHash: string): Promise<boolean> {
  const [, n, r, p, salt = "", key = ""] = SCRYPT.exec(passwordHash) ?? [];
  const expected = Buffer.from(key, "base64url");
  const derived = await derive(given, Buffer.from(salt, "base64url"), { N: Number(n), r: Number(r), p: Number(p) }, expected.length);
  return timingSafeEqual(derived, expected);
}

function derive(password: string, salt: Buffer, cost: ScryptOptions, bytes = KEY_BYTES): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const maxmem = 256 * (cost.N ?? 1) * (cost.r ?? 1);
    scrypt(password, salt, bytes, { ...cost, maxmem }, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

/** Passwords to remember as right, so that a browser's requests do not each cost a slow hash. */
const MAX_REMEMBERED = 1_000;

export interface DirectoryOptions {
  readonly users: readonly StoredUser[];
  readonly tokens: readonly StoredToken[];
  /** An admin whose password is a setting of its own. */
  readonly simple?: Credentials;
}

/** Finds the users of passwords and tokens. */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #users: ReadonlyMap<string, StoredUser>;
  readonly #key = randomBytes(32);
  readonly #remembered = new Map<string, User>();
  #nobody: Promise<string> | undefined;

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#users = new Map(options.users.map((user) => [user.name, user]));
  }

  /** Whether anyone can log in. */
  get isEmpty(): boolean {
    const { users, tokens, simple } = this.#options;
    return users.length + tokens.length === 0 && simple === undefined;
  }

  async byPassword({ username, password }: Credentials): Promise<User | undefined> {
    const { simple } = this.#options;
    if (simple !== undefined) {
      // Compares both, whatever the first result is.
      const isUser = isEqual(username, simple.username);
      const isRight = isEqual(password, simple.password);
      if (isUser && isRight) return { name: username, role: "admin" };
    }
    if (this.#users.size === 0) return undefined;
    const key = createHmac("sha256", this.#key)
      .update(JSON.stringify([username, password]))
      .digest("base64");
    const remembered = this.#remembered.get(key);
    if (remembered !== undefined) return remembered;
    const stored = this.#users.get(username);
    // An unknown name takes as long as a wrong password.
    const isRight = await isPassword(
      password,
      stored?.passwordHash ?? (await (this.#nobody ??= hashPassword(randomBytes(16).toString("hex")))),
    );
    if (stored === undefined || !isRight) return undefined;
    const user = { name: stored.name, role: stored.role };
    if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
    this.#remembered.set(key, user);
    return user;
  }

  byToken(token: string): User | undefined {
    const hash = hashToken(token);
    const stored = this.#options.tokens.find(({ tokenHash }) => isEqual(hash, tokenHash));
    return stored === undefined || stored.expiresAt <= Date.now() ? undefined : { name: stored.name, role: stored.role };
  }
}
