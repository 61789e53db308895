/** An OpenID Connect issuer on this machine, which logs everyone in. Tests make it answer wrongly. */
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWTPayload } from "jose";
import { createHash, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export const CLIENT_ID = "celery page";
export const CLIENT_SECRET = "a secret of the client: 0123456789";

/** What the next logins get. */
interface Behaviour {
  /** Claims of the ID token, besides those that every token has. */
  claims: JWTPayload;
  /** Replaces claims that every token has, such as `iss`, `aud`, `exp` and `nonce`. */
  wrong: JWTPayload;
  /** Signs with a key that the issuer does not publish. */
  hasOtherKey: boolean;
  userinfo: JWTPayload | undefined;
  /** Takes codes more than once. */
  isForgetful: boolean;
  /** Takes the secret only in the body. */
  isPost: boolean;
  /** Sends the browser back with another state. */
  state: string | undefined;
}

export interface TestIssuer extends Behaviour {
  readonly url: string;
  /** Paths of requests. */
  readonly asked: string[];
  reset(): void;
  stop(): Promise<void>;
}

interface Login {
  readonly challenge: string;
  readonly nonce: string;
  readonly callback: string;
  isUsed: boolean;
}

const DEFAULTS: Behaviour = {
  claims: { preferred_username: "ann", email: "ann@example.com", email_verified: true, groups: ["staff", "celery-readers"] },
  wrong: {},
  hasOtherKey: false,
  userinfo: undefined,
  isForgetful: false,
  isPost: false,
  state: undefined,
};

/** @param port 0 for any. */
export async function startIssuer(port = 0): Promise<TestIssuer> {
  const ours = await generateKeyPair("ES256");
  const other = await generateKeyPair("ES256");
  const jwk = await exportJWK(ours.publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  const logins = new Map<string, Login>();
  const asked: string[] = [];

  const idToken = (nonce: string): Promise<string> => {
    const now = Math.floor(Date.now() / 1_000);
    const payload = { iss: issuer.url, aud: CLIENT_ID, sub: "user-1", iat: now, exp: now + 300, nonce, ...issuer.claims, ...issuer.wrong };
    return new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid }).sign(issuer.hasOtherKey ? other.privateKey : ours.privateKey);
  };

  const token = async (request: IncomingMessage): Promise<[number, object]> => {
    const form = new URLSearchParams(await text(request));
    const basic = Buffer.from((request.headers.authorization ?? "").replace(/^Basic /, ""), "base64").toString();
    const [id = "", secret = ""] = issuer.isPost
      ? [form.get("client_id") ?? "", form.get("client_secret") ?? ""]
      : basic.split(":").map((part) => decodeURIComponent(part.replaceAll("+", " ")));
    if (id !== CLIENT_ID || secret !== CLIENT_SECRET) return [401, { error: "invalid_client" }];
    const login = logins.get(form.get("code") ?? "");
    const challenge = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    if (login?.challenge !== challenge || login.callback !== form.get("redirect_uri") || (login.isUsed && !issuer.isForgetful)) {
      return [400, { error: "invalid_grant" }];
    }
    login.isUsed = true;
    return [200, { access_token: "access", token_type: "Bearer", expires_in: 300, id_token: await idToken(login.nonce) }];
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname, searchParams } = new URL(request.url ?? "/", issuer.url);
    asked.push(pathname);
    const json = (status: number, body: object): void =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (pathname === "/authorize") {
      const code = randomUUID();
      const callback = searchParams.get("redirect_uri") ?? "";
      logins.set(code, {
        challenge: searchParams.get("code_challenge") ?? "",
        nonce: searchParams.get("nonce") ?? "",
        callback,
        isUsed: false,
      });
      const back = new URL(callback);
      back.search = new URLSearchParams({ code, state: issuer.state ?? searchParams.get("state") ?? "" }).toString();
      response.writeHead(302, { location: back.href }).end();
    } else if (pathname === "/token") json(...(await token(request)));
    else if (pathname === "/keys") json(200, { keys: [{ ...jwk, kid, alg: "ES256", use: "sig" }] });
    else if (pathname === "/userinfo") json(200, { sub: "user-1", ...issuer.userinfo });
    else if (pathname === "/.well-known/openid-configuration") {
      json(200, {
        issuer: issuer.url,
        authorization_endpoint: `${issuer.url}/authorize`,
        token_endpoint: `${issuer.url}/token`,
        jwks_uri: `${issuer.url}/keys`,
        userinfo_endpoint: `${issuer.url}/userinfo`,
        response_types_supported: ["code"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
        ...(issuer.isPost && { token_endpoint_auth_methods_supported: ["client_secret_post"] }),
      });
    } else json(404, {});
  };

  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const issuer: TestIssuer = {
    ...DEFAULTS,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    reset: () => void Object.assign(issuer, DEFAULTS),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return issuer;
}
