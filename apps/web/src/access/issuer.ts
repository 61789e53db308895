/** An OpenID Connect issuer that logs users in: the authorization code flow with PKCE, state and nonce. */
import { refusal } from "@celery-metrics-exporter/access";
import { Outage, Repeat, toError, type ComponentHealth, type Logger } from "@celery-metrics-exporter/runtime";
import * as oidc from "openid-client";
import { roleOf, userNamed, type DefaultRole, type GroupRoles } from "./group-roles.ts";
import type { StoredLogin } from "./session.ts";
import type { User } from "./user.ts";

export interface IssuerOptions {
  readonly url: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scopes: string;
  /** The claim with the user's groups: its name, or the path to it with dots. */
  readonly roleClaim: string;
  readonly groupRoles: GroupRoles;
  readonly role: DefaultRole;
  /** In lower case. If there are any, users need a verified e-mail address in one of them. */
  readonly emailDomains: readonly string[];
  /** Where the issuer sends the browser back to. */
  readonly callback: URL;
  readonly logger: Logger;
  readonly component: ComponentHealth;
}

const TIMEOUT_SECONDS = 5;
const ASK_EVERY_MS = 10_000;
/** Logins whose answer came, so that it does not come twice. The oldest are forgotten first; they expire. */
const MAX_USED = 10_000;

type Claims = Readonly<Record<string, unknown>>;

export class Issuer {
  readonly #options: IssuerOptions;
  readonly #asking: Repeat;
  readonly #used = new Set<string>();
  #known: oidc.Configuration | undefined;

  /** Asks for the issuer's description, until it comes. */
  constructor(options: IssuerOptions) {
    this.#options = options;
    const { component, logger } = options;
    const outage = new Outage({
      logger,
      component,
      began: "the OpenID Connect issuer does not answer: nobody can log in there",
      ended: "the OpenID Connect issuer answers",
    });
    this.#asking = new Repeat(() => this.#discover().then(() => outage.served()), {
      everyMs: ASK_EVERY_MS,
      first: "now",
      onError: (error) => outage.failed({ reason: reasonOf(error), issuer: options.url }),
    });
  }

  /** Resolves when the issuer was asked once. */
  get asked(): Promise<void> {
    return this.#asking.firstRun;
  }

  stop(): Promise<void> {
    return this.#asking.stop();
  }

  /** The address at the issuer to which the browser goes, and what to remember until it comes back. @throws {Error} with the status 503. */
  async begin(to: string): Promise<{ readonly address: string; readonly login: StoredLogin }> {
    const login = { state: oidc.randomState(), nonce: oidc.randomNonce(), verifier: oidc.randomPKCECodeVerifier(), to };
    const address = oidc.buildAuthorizationUrl(this.#configuration(), {
      redirect_uri: this.#options.callback.href,
      scope: this.#options.scopes,
      state: login.state,
      nonce: login.nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(login.verifier),
      code_challenge_method: "S256",
    });
    return { address: address.href, login };
  }

  /** The user who comes back. @param query of the address to which the issuer sent the browser. @throws {Error} with a status and a sentence. */
  async finish(query: string, { state, nonce, verifier }: StoredLogin): Promise<User> {
    const configuration = this.#configuration();
    if (this.#used.has(state)) throw refusal(400, "This login was used already. Open the page again.");
    const claims = await this.#claims(configuration, query, { state, nonce, verifier }).catch((thrown: unknown) => this.#refuse(thrown));
    return this.#toUser(claims);
  }

  async #claims(configuration: oidc.Configuration, query: string, login: Omit<StoredLogin, "to">): Promise<Claims> {
    const address = new URL(this.#options.callback);
    address.search = query;
    if (address.searchParams.get("state") === login.state) this.#use(login.state);
    const tokens = await oidc.authorizationCodeGrant(configuration, address, {
      expectedState: login.state,
      expectedNonce: login.nonce,
      pkceCodeVerifier: login.verifier,
      idTokenExpected: true,
    });
    const claims = tokens.claims();
    if (claims === undefined) throw new Error("the issuer sent no ID token");
    if (this.#hasAll(claims) || configuration.serverMetadata().userinfo_endpoint === undefined) return claims;
    // Some issuers tell groups and addresses only here. What the signed token says counts more.
    return { ...(await oidc.fetchUserInfo(configuration, tokens.access_token, claims.sub)), ...claims };
  }

  #hasAll(claims: Claims): boolean {
    const { roleClaim, groupRoles, emailDomains } = this.#options;
    return (
      (groupRoles.size === 0 || claimAt(claims, roleClaim) !== undefined) && (emailDomains.length === 0 || claims["email"] !== undefined)
    );
  }

  #toUser(claims: Claims): User {
    const { roleClaim, groupRoles, role: otherwise, emailDomains, logger } = this.#options;
    const { email, email_verified: isVerified } = claims;
    const domain = typeof email === "string" ? email.slice(email.lastIndexOf("@") + 1).toLowerCase() : "";
    if (emailDomains.length > 0 && !(isVerified === true && emailDomains.includes(domain))) {
      logger.warn("a login was refused: no verified e-mail address in one of WEB_OIDC_EMAIL_DOMAINS");
      throw refusal(403, "Your account has no verified e-mail address that is accepted here.");
    }
    const groups = [claimAt(claims, roleClaim)].flat().filter((group) => typeof group === "string");
    const role = roleOf(groups, groupRoles, otherwise);
    if (role === undefined) {
      logger.warn(
        { claim: roleClaim },
        "a login was refused: the account is in none of the groups of WEB_GROUP_ROLES, and WEB_OIDC_ROLE is none",
      );
      throw refusal(403, "Your account has no role here.");
    }
    const names = [claims["preferred_username"], email, claims["name"], claims["sub"]];
    return userNamed(names.find((name) => typeof name === "string" && name !== "") as string, role);
  }

  #use(state: string): void {
    this.#used.add(state);
    const [oldest] = this.#used;
    if (this.#used.size > MAX_USED && oldest !== undefined) this.#used.delete(oldest);
  }

  /** Logs why, without what the issuer or the browser sent: it may contain codes and tokens. */
  #refuse(thrown: unknown): never {
    const error = toError(thrown);
    const reason = reasonOf(error);
    this.#options.logger.warn({ reason, code: (error as NodeJS.ErrnoException).code }, "a login at the OpenID Connect issuer failed");
    if (isAway(error)) throw refusal(503, AWAY);
    throw refusal(403, "The login was not accepted. Open the page again.");
  }

  #configuration(): oidc.Configuration {
    if (this.#known === undefined) throw refusal(503, AWAY);
    return this.#known;
  }

  async #discover(): Promise<void> {
    if (this.#known !== undefined) return;
    const { url, clientId, clientSecret } = this.#options;
    const issuer = new URL(url);
    const known = await oidc.discovery(issuer, clientId, {}, authenticate(clientSecret), {
      timeout: TIMEOUT_SECONDS,
      // The setting allows it only for this machine.
      ...(issuer.protocol === "http:" && { execute: [oidc.allowInsecureRequests] }),
    });
    // Checks the signature, even though the token comes from the issuer itself.
    oidc.enableNonRepudiationChecks(known);
    this.#known = known;
  }
}

const AWAY = "The login service does not answer. Try again in a minute.";

/** By header, as is the default of OpenID Connect, unless the issuer takes the secret only in the body. */
function authenticate(secret: string): oidc.ClientAuth {
  const byHeader = oidc.ClientSecretBasic(secret);
  const inBody = oidc.ClientSecretPost(secret);
  return (server, ...request) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    (methods.includes("client_secret_basic") ? byHeader : inBody)(server, ...request);
  };
}

/** A claim by its name, which may contain dots, or by the path to it. */
function claimAt(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  return name.split(".").reduce<unknown>((value, key) => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined), claims);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isAway(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "OAUTH_TIMEOUT" || (error instanceof TypeError && error.message === "fetch failed");
}

function reasonOf(error: Error): string {
  const { cause } = error;
  return error.message === "fetch failed" && cause instanceof Error ? `${error.message}: ${cause.message}` : error.message;
}
