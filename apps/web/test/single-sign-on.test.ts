/** Logging in at an OpenID Connect issuer. */
import { freePort } from "@celery-metrics-exporter/testkit";
import { EncryptJWT } from "jose";
import { hkdfSync } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ourAddress } from "../src/access/auth-routes.ts";
import { createToken, hashPassword } from "../src/access/user.ts";
import { BrowserSession } from "./browser-session.ts";
import { useApi } from "./harness.ts";
import { CLIENT_ID, CLIENT_SECRET, startIssuer, type TestIssuer } from "./issuer.ts";
import { startProxy, type Proxy } from "./proxy.ts";
import { useBrowser } from "./scene.ts";

const api = useApi();
const viewer = useBrowser();
const PASSWORD = "correct horse";
const { token, tokenHash } = createToken();
let issuer: TestIssuer;
/** With a slash at the end. */
let site = "";
const proxies: Proxy[] = [];

beforeAll(async () => {
  issuer = await startIssuer();
  site = await start();
});
afterEach(() => issuer.reset());
afterAll(async () => {
  await issuer.stop();
  for (const proxy of proxies) await proxy.stop();
});

async function settingsOf(publicUrl: string, port: number): Promise<Record<string, string>> {
  return {
    WEB_PORT: String(port),
    WEB_REQUEST_TIMEOUT_SECONDS: "30",
    WEB_PUBLIC_URL: publicUrl,
    WEB_OIDC_ISSUER: issuer.url,
    WEB_OIDC_CLIENT_ID: CLIENT_ID,
    WEB_OIDC_CLIENT_SECRET: CLIENT_SECRET,
    WEB_GROUP_ROLES: "celery-readers:reader, celery-admins:admin",
    WEB_USERS: `bob:viewer:${await hashPassword(PASSWORD)}`,
    WEB_TOKENS: `script:operator:2099-01-31:${tokenHash}`,
  };
}

async function start(more: Readonly<Record<string, string>> = {}): Promise<string> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  await api.start({ ...(await settingsOf(url, port)), ...more });
  return url;
}

async function login(page = site): Promise<BrowserSession> {
  const browser = new BrowserSession();
  await browser.follow(page);
  return browser;
}

async function me(browser: BrowserSession, url = site): Promise<unknown> {
  return (await browser.api(`${url}api/v1/me`)).json();
}

/** The address with which the issuer sends the browser back. */
async function callbackOf(browser: BrowserSession, url = site): Promise<string> {
  return (await browser.follow(`${url}tasks`, /\/auth\/callback/)).address;
}

function askAs(authorization: string): Promise<Response> {
  return fetch(`${site}api/v1/me`, { headers: { authorization } });
}

async function messageOf(answer: Response): Promise<string> {
  return /<p>(.*)<\/p>/.exec(await answer.text())?.[1] ?? "";
}

describe("a person who opens a page", () => {
  it("logs in at the issuer and comes back to that page", async () => {
    const browser = new BrowserSession();
    const { answer, address } = await browser.follow(`${site}tasks?status=FAILURE&text=a%2Fb%3Fc`);
    expect(address).toBe(`${site}tasks?status=FAILURE&text=a%2Fb%3Fc`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(await me(browser)).toEqual({ name: "ann", role: "reader", logout: "auth/logout" });
    expect(issuer.asked).toEqual(expect.arrayContaining(["/authorize", "/token", "/keys"]));
  });

  it("gets a cookie that scripts and other sites cannot use, for eight hours", async () => {
    const { set } = await login();
    const session = set.find((line) => line.startsWith("cme-session="));
    expect(session).toMatch(/; Max-Age=28800;/);
    expect(session).toMatch(/; Path=\/;/);
    expect(session).toMatch(/; HttpOnly/);
    expect(session).toMatch(/; SameSite=Lax/);
    expect(session).not.toMatch(/ann|reader/);
  });

  it("over HTTPS gets a cookie that is sent only over HTTPS", async () => {
    const port = await freePort();
    await api.start(await settingsOf("https://tools.example.com/celery", port));
    const browser = new BrowserSession();
    const begun = await browser.open(`http://127.0.0.1:${port}/auth/login`);
    const { searchParams } = new URL(begun.headers.get("location") ?? "");
    expect(searchParams.get("redirect_uri")).toBe("https://tools.example.com/celery/auth/callback");
    expect(searchParams.get("code_challenge_method")).toBe("S256");
    expect(browser.set[0]).toMatch(/^__Secure-cme-login=.*; Path=\/celery\/;.*; Secure/);
  });

  it.each([true, false])("logs in below the path of a proxy (which strips it: %s)", async (strips) => {
    const port = await freePort();
    const proxy = await startProxy(`http://127.0.0.1:${port}`, { prefix: "/celery", strips });
    proxies.push(proxy);
    await api.start(await settingsOf(`${proxy.url}/celery`, port));
    const browser = new BrowserSession();
    const { answer, address } = await browser.follow(`${proxy.url}/celery/tasks?name=x`);
    expect([answer.status, address]).toEqual([200, `${proxy.url}/celery/tasks?name=x`]);
    expect(await me(browser, `${proxy.url}/celery/`)).toMatchObject({ name: "ann" });
    expect(browser.set.at(-1)).toContain("; Path=/celery/;");
  });

  it("logs out", async () => {
    const browser = await login();
    const answer = await browser.api(`${site}auth/logout`, { method: "POST", headers: { origin: new URL(site).origin } });
    expect(answer.status).toBe(204);
    expect(answer.headers.get("set-cookie")).toMatch(/^cme-session=; .*Expires=Thu, 01 Jan 1970/);
    const page = await fetch(`${site}auth/logged-out`);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('<a href="../">Log in again</a>')]);
  });

  it("is not logged out by another site's page", async () => {
    const browser = await login();
    const headers = { "sec-fetch-site": "cross-site", origin: "http://evil.example.com" };
    expect((await browser.api(`${site}auth/logout`, { method: "POST", headers })).status).toBe(403);
  });

  it("may use a password instead", async () => {
    const browser = new BrowserSession();
    const asked = await browser.open(`${site}auth/password`);
    expect([asked.status, asked.headers.get("www-authenticate")]).toEqual([401, expect.stringMatching(/^Basic /)]);
    const authorization = `Basic ${Buffer.from(`bob:${PASSWORD}`).toString("base64")}`;
    const answer = await browser.open(`${site}auth/password`, { authorization });
    expect([answer.status, answer.headers.get("location")]).toEqual([302, site]);
    expect(await me(browser)).toEqual({ name: "bob", role: "viewer", logout: "auth/logout" });
  });
});

it("in a real browser, one logs in, is called by one's name, and logs out", async () => {
  const page = await viewer.open(`${site}about`);
  await page.getByText("ann", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Logged out" }).waitFor();
  expect(await page.evaluate(async () => (await fetch("/api/v1/me")).status)).toBe(401);
  await page.getByRole("link", { name: "Log in again" }).click();
  await page.getByText("ann, reader").waitFor();
  expect(viewer.complaints.filter((text) => !text.includes("401"))).toEqual([]);
});

describe("a program", () => {
  it("uses passwords and tokens as before", async () => {
    expect(await (await askAs(`Bearer ${token}`)).json()).toEqual({ name: "script", role: "operator", logout: null });
    expect(await (await askAs(`Basic ${Buffer.from(`bob:${PASSWORD}`).toString("base64")}`)).json()).toMatchObject({ name: "bob" });
    expect((await askAs("Bearer wrong")).status).toBe(401);
  });

  it("without a session gets a problem document, not a page", async () => {
    const answer = await fetch(`${site}api/v1/tasks`, { redirect: "manual" });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([401, "application/problem+json; charset=utf-8"]);
    expect(answer.headers.get("www-authenticate")).toMatch(/^Basic /);
    const ofPage = await new BrowserSession().api(`${site}api/v1/tasks`);
    expect([ofPage.status, ofPage.headers.get("www-authenticate")]).toEqual([401, expect.stringMatching(/^Bearer /)]);
    expect(await ofPage.json()).toMatchObject({ detail: "You are not logged in, or no longer. Reload the page." });
  });

  it("cannot use a session beside a wrong token", async () => {
    const browser = await login();
    expect((await browser.api(`${site}api/v1/me`, { headers: { authorization: "Bearer wrong" } })).status).toBe(401);
  });

  it("may not change anything with the session of another site's visitor", async () => {
    const browser = await login();
    const headers = { "sec-fetch-site": "cross-site" };
    expect((await browser.api(`${site}api/v1/tasks`, { method: "POST", headers })).status).toBe(403);
  });
});

describe("the role", () => {
  it.each([
    [{ groups: ["celery-admins", "celery-readers"] }, "admin"],
    [{ groups: "celery-readers" }, "reader"],
  ])("comes from the groups %j", async (claims, role) => {
    issuer.claims = { ...issuer.claims, ...claims };
    expect(await me(await login())).toMatchObject({ role });
  });

  it.each([
    { groups: ["admin", "staff"] },
    { groups: [] },
    { groups: undefined },
    { groups: { admin: true } },
    { groups: [["celery-admins"]] },
  ])("is none with %j", async (claims) => {
    issuer.claims = { ...issuer.claims, ...claims };
    const browser = new BrowserSession();
    const { answer } = await browser.follow(site);
    expect([answer.status, await messageOf(answer)]).toEqual([403, "Your account has no role here."]);
    expect(browser.cookies.size).toBe(0);
  });

  it("comes from a claim at a path, or from the issuer's user info", async () => {
    const url = await start({ WEB_OIDC_ROLE_CLAIM: "realm_access.roles" });
    issuer.claims = { preferred_username: "eve", realm_access: { roles: ["celery-admins"] } };
    expect(await me(await login(url), url)).toMatchObject({ name: "eve", role: "admin" });
    issuer.claims = { preferred_username: "eve" };
    issuer.userinfo = { realm_access: { roles: ["celery-readers"] } };
    expect(await me(await login(url), url)).toMatchObject({ name: "eve", role: "reader" });
  });

  it("may be one for everyone in a domain, whose address is verified", async () => {
    const url = await start({ WEB_GROUP_ROLES: "", WEB_OIDC_ROLE: "viewer", WEB_OIDC_EMAIL_DOMAINS: "Example.com" });
    expect(await me(await login(url), url)).toMatchObject({ name: "ann", role: "viewer" });
    for (const claims of [
      { email: "ann@example.com", email_verified: false },
      { email: "ann@example.com", email_verified: "true" },
      { email: "ann@example.com.evil.org", email_verified: true },
      { email: "example.com", email_verified: undefined },
      { email: '"ann@example.com"@evil.org', email_verified: true },
    ]) {
      issuer.claims = { preferred_username: "ann", ...claims };
      const { answer } = await new BrowserSession().follow(url);
      expect([claims, answer.status]).toEqual([claims, 403]);
    }
  });

  it("goes to an issuer that takes the secret in the body too", async () => {
    issuer.isPost = true;
    const url = await start();
    expect(await me(await login(url), url)).toMatchObject({ name: "ann" });
  });
});

describe("a login is refused", () => {
  const NOW = Math.floor(Date.now() / 1_000);

  it.each([
    ["another nonce", { wrong: { nonce: "another" } }],
    ["no nonce", { wrong: { nonce: undefined } }],
    ["another audience", { wrong: { aud: "another client" } }],
    ["another issuer", { wrong: { iss: "http://127.0.0.1:1" } }],
    ["a token that has expired", { wrong: { iat: NOW - 7_200, exp: NOW - 3_600 } }],
    ["a key that the issuer does not publish", { hasOtherKey: true }],
    ["another state", { state: "another" }],
  ] as [string, Partial<TestIssuer>][])("with %s", async (_what, behaviour) => {
    const url = await start();
    Object.assign(issuer, behaviour);
    const browser = new BrowserSession();
    const { answer } = await browser.follow(url);
    expect([answer.status, await messageOf(answer)]).toEqual([403, "The login was not accepted. Open the page again."]);
    expect(browser.cookies.size).toBe(0);
    expect((await browser.api(`${url}api/v1/me`)).status).toBe(401);
  });

  it("if it was begun in another browser", async () => {
    const address = await callbackOf(new BrowserSession());
    for (const victim of [new BrowserSession(), await login()]) {
      const answer = await victim.open(address);
      expect([answer.status, await messageOf(answer)]).toEqual([400, expect.stringContaining("not begun in this browser")]);
    }
    const other = new BrowserSession();
    await callbackOf(other);
    expect((await other.open(address)).status).toBe(403);
  });

  it("if its code is used again, even at an issuer that forgets", async () => {
    issuer.isForgetful = true;
    const browser = new BrowserSession();
    const address = await callbackOf(browser);
    const before = new Map(browser.cookies);
    expect((await browser.open(address)).status).toBe(302);
    const thief = new BrowserSession();
    for (const [name, value] of before) thief.cookies.set(name, value);
    const answer = await thief.open(address);
    expect([answer.status, await messageOf(answer)]).toEqual([400, expect.stringContaining("used already")]);
    expect([...thief.cookies.keys()]).toEqual([]);
  });

  it("if its code is unknown, and twenty times a minute at most", async () => {
    const url = await start();
    const statuses: number[] = [];
    for (let count = 0; count < 22; count++) {
      const browser = new BrowserSession();
      const address = new URL(await callbackOf(browser, url));
      address.searchParams.set("code", "guess");
      statuses.push((await browser.open(address.href)).status);
    }
    expect(statuses).toEqual([...Array.from({ length: 20 }, () => 403), 429, 429]);
    expect(api.log.join("")).not.toMatch(/guess/);
  });

  it("if the issuer refused it", async () => {
    const browser = new BrowserSession();
    const address = new URL(await callbackOf(browser));
    const state = address.searchParams.get("state") ?? "";
    address.search = new URLSearchParams({ error: "access_denied", error_description: "<b>no</b>", state }).toString();
    const answer = await browser.open(address.href);
    expect([answer.status, await messageOf(answer)]).toEqual([403, "The login was not accepted. Open the page again."]);
  });
});

/** As the server makes it. */
async function sealed({ secret = CLIENT_SECRET, audience = "session", exp = "1 h", role = "admin" }): Promise<string> {
  const key = new Uint8Array(hkdfSync("sha256", secret, `${issuer.url} ${CLIENT_ID}`, "celery-metrics-exporter session", 32));
  return new EncryptJWT({ name: "eve", role })
    .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
    .setAudience(audience)
    .setExpirationTime(exp)
    .encrypt(key);
}

async function statusWith(value: string): Promise<number> {
  return (await fetch(`${site}api/v1/me`, { headers: { cookie: `cme-session=${value}` } })).status;
}

describe("a cookie", () => {
  it("counts only if this server made it for a session, and until it expires", async () => {
    expect(await statusWith(await sealed({}))).toBe(200);
    expect(await statusWith(await sealed({ secret: "another secret" }))).toBe(401);
    expect(await statusWith(await sealed({ audience: "login" }))).toBe(401);
    expect(await statusWith(await sealed({ exp: "-1 s" }))).toBe(401);
    expect(await statusWith(await sealed({ role: "root" }))).toBe(401);
  });

  it("that was changed does not count", async () => {
    const [, value = ""] = [...(await login()).cookies].find(([name]) => name === "cme-session") ?? [];
    expect(await statusWith(value)).toBe(200);
    for (const index of [0, 40, Math.floor(value.length / 2), value.length - 5]) {
      const changed = value.slice(0, index) + (value[index] === "A" ? "B" : "A") + value.slice(index + 1);
      expect(await statusWith(changed)).toBe(401);
    }
    for (const forged of ["", "x", "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.", "%00", `${value}x`])
      expect(await statusWith(forged)).toBe(401);
  });
});

describe("after a login", () => {
  it.each([
    "https://evil.example.com/",
    "//evil.example.com/tasks",
    "/\\evil.example.com/tasks",
    "\\\\evil.example.com",
    "\t//evil.example.com",
    "javascript:alert(1)",
    "data:text/html,x",
    "../tasks",
    "/tasks",
    "https://user@tools.example.com/celery/tasks",
    "https://tools.example.com.evil.org/celery/tasks",
    "https://tools.example.com/celery/../other",
    "..%2f..%2fother",
    "auth/logout",
    "api/v1/tasks",
    "tasks/../../other",
    "x".repeat(2_000),
    ["tasks", "tasks"],
    undefined,
  ])("the browser is not sent to %j", (to) => {
    expect(ourAddress(to, new URL("https://tools.example.com/celery/")).href).toBe("https://tools.example.com/celery/");
  });

  it.each(["", "tasks", "tasks?name=//evil.example.com", "task?id=%2F%2Fx", "?range=1h", "https://tools.example.com/celery/queues"])(
    "the browser is sent to our page %j",
    (to) => {
      const base = "https://tools.example.com/celery/";
      expect(ourAddress(to, new URL(base)).href).toBe(to.startsWith("https:") ? to : base + to);
    },
  );

  it("a foreign address in a link to the login is ignored", async () => {
    const { address } = await new BrowserSession().follow(`${site}auth/login?to=${encodeURIComponent("//evil.example.com/tasks")}`);
    expect(address).toBe(site);
  });
});

it("an issuer that is away does not keep others from being served, and is found once it is back", { timeout: 60_000 }, async () => {
  const port = await freePort();
  const health = await freePort();
  const url = await start({ WEB_OIDC_ISSUER: `http://127.0.0.1:${port}`, HEALTH_PORT: String(health) });
  const readiness = async (): Promise<unknown> => (await fetch(`http://127.0.0.1:${health}/readyz`)).json();
  expect(await readiness()).toMatchObject({ components: { database: "up", issuer: expect.stringContaining("ECONNREFUSED") as string } });
  expect(api.log.join("")).toContain("the OpenID Connect issuer does not answer: nobody can log in there");
  expect(await (await fetch(`${url}api/v1/me`, { headers: { authorization: `Bearer ${token}` } })).json()).toMatchObject({
    name: "script",
  });
  const { answer } = await new BrowserSession().follow(url);
  expect([answer.status, await messageOf(answer)]).toEqual([503, "The login service does not answer. Try again in a minute."]);
  const late = await startIssuer(port);
  try {
    await expect.poll(readiness, { timeout: 30_000, interval: 500 }).toMatchObject({ components: { issuer: "up" } });
    expect(await me(await login(url), url)).toMatchObject({ name: "ann" });
  } finally {
    await late.stop();
  }
});

it("nothing secret is logged", () => {
  const log = api.log.join("\n");
  expect(log).toContain("a login at the OpenID Connect issuer failed");
  for (const secret of [CLIENT_SECRET, PASSWORD, token, "id_token", "access_denied", "evil", "eyJ"]) expect(log).not.toContain(secret);
});
