/** Users whom a reverse proxy names in a header. */
import { request } from "node:http";
import { beforeAll, describe, expect, it } from "vitest";
import { parseGroupRoles } from "../src/access/group-roles.ts";
import { createToken } from "../src/access/user.ts";
import { useApi } from "./harness.ts";

const api = useApi();
const { token, tokenHash } = createToken();
const HEADERS = { WEB_PROXY_USER_HEADER: "X-Forwarded-User", WEB_PROXY_GROUPS_HEADER: "X-Forwarded-Groups" };
const TOKENS = { WEB_TOKENS: `script:operator:2099-01-31:${tokenHash}` };
/** The tests are the proxy of the first server, and strangers to the second. */
let trusting = "";
let other = "";

beforeAll(async () => {
  const more = { ...HEADERS, ...TOKENS, WEB_GROUP_ROLES: "ops:admin,support:reader", WEB_ALLOWED_HOSTS: "celery.example.com" };
  trusting = await api.start({ ...more, WEB_TRUSTED_PROXIES: "127.0.0.0/8" });
  other = await api.start({ ...more, WEB_TRUSTED_PROXIES: "10.9.8.7, fd00::/8" });
});

interface Answer {
  readonly status: number | undefined;
  readonly body: { readonly name?: string; readonly role?: string; readonly detail?: string };
}

/** Sends headers as they are, more than one of a name too. */
function me(url: string, headers: Readonly<Record<string, string | string[]>>, method = "GET"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(`${url}/me`, { method, headers, agent: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part: string) => (text += part));
      answer.on("end", () => resolve({ status: answer.statusCode, body: JSON.parse(text) as Answer["body"] }));
    })
      .on("error", reject)
      .end();
  });
}

describe("the user whom the proxy names", () => {
  it.each(["ann", "ann@example.com", "CORP\\ann", "Ann van der Berg", "uid=ann"])("is logged in: %s", async (name) => {
    // The address of the client counts for the limit of wrong logins only.
    const headers = { "x-forwarded-user": name, "x-forwarded-for": "203.0.113.5" };
    expect(await me(trusting, headers)).toMatchObject({ status: 200, body: { name, role: "viewer", logout: null } });
  });

  it.each([
    ["support", "reader"],
    ["staff, support,ops", "admin"],
    ["admin", "viewer"],
    ["", "viewer"],
  ])("has the highest role of the groups %j", async (groups, role) => {
    expect(await me(trusting, { "x-forwarded-user": "ann", "x-forwarded-groups": groups })).toMatchObject({ body: { name: "ann", role } });
  });

  it("is refused without a role", async () => {
    const strict = await api.start({ ...HEADERS, WEB_TRUSTED_PROXIES: "127.0.0.1", WEB_PROXY_ROLE: "none", WEB_GROUP_ROLES: "ops:admin" });
    expect(await me(strict, { "x-forwarded-user": "ann" })).toMatchObject({
      status: 403,
      body: { detail: "Your account has no role here." },
    });
    expect(await me(strict, { "x-forwarded-user": "ann", "x-forwarded-groups": "ops" })).toMatchObject({ body: { role: "admin" } });
  });

  it("may be asked for through the proxy's name, but not through that of another site", async () => {
    expect(await me(trusting, { "x-forwarded-user": "ann", host: "celery.example.com" })).toMatchObject({ status: 200 });
    const answer = await me(trusting, { "x-forwarded-user": "ann", host: "evil.example.com" });
    expect(answer).toMatchObject({ status: 403, body: { detail: expect.stringContaining("WEB_ALLOWED_HOSTS") as string } });
  });

  it("cannot be made to change anything by another site's page", async () => {
    const headers = { "x-forwarded-user": "ann", "sec-fetch-site": "cross-site", origin: "http://evil.example.com" };
    expect((await me(trusting, headers, "POST")).status).toBe(403);
    expect((await me(trusting, { ...headers, "sec-fetch-site": "same-origin" }, "POST")).status).toBe(404);
  });
});

describe("the header is ignored", () => {
  it("from everyone but the proxy, whatever else they claim", async () => {
    for (const more of [
      {},
      { "x-forwarded-for": "10.9.8.7" },
      { forwarded: "for=10.9.8.7" },
      { "x-real-ip": "10.9.8.7" },
      { host: "celery.example.com" },
    ]) {
      expect((await me(other, { "x-forwarded-user": "ann", "x-forwarded-groups": "ops", ...more })).status).toBe(401);
    }
  });

  it.each([
    ["empty", ""],
    ["blank", "  "],
    ["repeated", ["ann", "root"]],
    ["repeated with the same name", ["ann", "ann"]],
    ["two that became one", "root, ann"],
    ["too long", "a".repeat(201)],
    ["HTML", "<b>ann</b>"],
    ["a tab", "ann\troot"],
    ["not ASCII", "\u00e4nn"],
    ["bytes of UTF-8", Buffer.from("änn").toString("latin1")],
    ["a quote", 'ann"'],
    ["a semicolon", "ann; role=admin"],
    ["two blanks", "ann  root"],
  ])("if it is %s", async (_what, value) => {
    expect((await me(trusting, { "x-forwarded-user": value })).status).toBe(401);
  });

  it("if there are two headers with groups", async () => {
    expect((await me(trusting, { "x-forwarded-user": "ann", "x-forwarded-groups": ["support", "ops"] })).status).toBe(401);
  });

  it("if it has another name", async () => {
    expect((await me(trusting, { "x-forwarded-user-name": "ann", x_forwarded_user: "ann", "remote-user": "ann" })).status).toBe(401);
  });
});

it("a token works beside it", async () => {
  for (const url of [trusting, other]) {
    expect(await me(url, { authorization: `Bearer ${token}` })).toMatchObject({ status: 200, body: { name: "script", role: "operator" } });
  }
});

it("groups may have commas and colons in their names", () => {
  expect(parseGroupRoles("cn=ops,dc=example,dc=com:admin, a:b:viewer\n\nstaff:reader,")).toEqual([
    ["cn=ops,dc=example,dc=com", "admin"],
    ["a:b", "viewer"],
    ["staff", "reader"],
  ]);
  expect(parseGroupRoles(" ")).toEqual([]);
  expect(() => parseGroupRoles("ops:root")).toThrow(/^entry 1 must be a group and a role: .*viewer, reader, operator, admin/);
});

describe("settings", () => {
  const OIDC = { WEB_OIDC_ISSUER: "https://id.example.com", WEB_OIDC_CLIENT_ID: "x", WEB_OIDC_CLIENT_SECRET: "0123456789abcdef" };

  it.each([
    [{ WEB_PROXY_USER_HEADER: "X-User" }, /^WEB_TRUSTED_PROXIES: is required/],
    [{ WEB_PROXY_USER_HEADER: "X-User", WEB_PROXY_GROUPS_HEADER: "x-user", WEB_TRUSTED_PROXIES: "127.0.0.1" }, /must be another header/],
    [{ WEB_PROXY_USER_HEADER: "Authorization", WEB_TRUSTED_PROXIES: "127.0.0.1" }, /must be a header of its own/],
    [{ WEB_PROXY_USER_HEADER: "X User" }, /must be the name of a header/],
    [{ WEB_GROUP_ROLES: "ops" }, /^WEB_GROUP_ROLES: entry 1/],
    [OIDC, /^WEB_PUBLIC_URL: is required, because WEB_OIDC_ISSUER is set/],
    [{ ...OIDC, WEB_PUBLIC_URL: "https://x.example.com" }, /^WEB_GROUP_ROLES: is required, or WEB_OIDC_ROLE/],
    [{ ...OIDC, WEB_PUBLIC_URL: "https://x.example.com/?a=b", WEB_OIDC_ROLE: "viewer" }, /^WEB_PUBLIC_URL: must be a URL without/],
    [
      { ...OIDC, WEB_OIDC_ISSUER: "http://id.example.com", WEB_OIDC_ROLE: "viewer" },
      /^WEB_OIDC_ISSUER: must be a URL that starts with https/,
    ],
    [{ ...OIDC, WEB_OIDC_CLIENT_SECRET: "hunter2" }, /^WEB_OIDC_CLIENT_SECRET: must have at least 16 characters/],
    [{ WEB_OIDC_CLIENT_ID: "x" }, /^WEB_OIDC_ISSUER: is required, because WEB_OIDC_CLIENT_ID is set/],
  ] as [Record<string, string>, RegExp][])("are refused: %j", async (settings, problem) => {
    const failed = (await api.start(settings).catch((thrown: unknown) => thrown)) as Error & { readonly problems?: readonly string[] };
    expect(failed.problems).toEqual(expect.arrayContaining([expect.stringMatching(problem)]));
    expect(failed.message).not.toContain("hunter2");
  });

  it("a proxy or an issuer suffices to listen on other addresses", async () => {
    await expect(api.start({ WEB_HOST: "0.0.0.0" })).rejects.toThrow(/users are required/);
    await expect(api.start({ WEB_HOST: "0.0.0.0", ...HEADERS, WEB_TRUSTED_PROXIES: "127.0.0.1" })).resolves.toContain("http://");
  });
});
