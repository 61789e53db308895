import { describe, expect, it } from "vitest";
import { parseRedisUrl, redisAddressOf } from "../src/index.ts";

const LOCAL = { host: "127.0.0.1", port: 6379, db: 0 };
const VERIFIED = { verify: true, checkHostname: true };

describe("the URL of a Redis", () => {
  it.each([
    ["redis://", LOCAL],
    ["redis://h:6380/3", { host: "h", port: 6380, db: 3 }],
    ["redis://:p%40ss@h", { host: "h", port: 6379, db: 0, password: "p@ss" }],
    ["redis://:p;a@h", { host: "h", port: 6379, db: 0, password: "p;a" }],
    ["redis://u:p@[::1]/", { host: "::1", port: 6379, db: 0, username: "u", password: "p" }],
    ["redis://h?db=4", { host: "h", port: 6379, db: 4 }],
    ["rediss://h", { host: "h", port: 6379, db: 0, tls: VERIFIED }],
    ["rediss://h?ssl_cert_reqs=none", { host: "h", port: 6379, db: 0, tls: { verify: false, checkHostname: true } }],
    ["redis+socket:///run/redis.sock?virtual_host=1", { ...LOCAL, port: 0, db: 1, socketPath: "/run/redis.sock" }],
    ["sentinel://a", { host: "a", port: 26379, db: 0, sentinels: [{ host: "a", port: 26379 }] }],
  ])("%s is read as kombu does", (url, server) => {
    expect(parseRedisUrl(url)).toEqual({ ok: true, server });
  });

  it.each([
    "sentinel://:pw@a:1;sentinel://b:2/5?ssl_ca_certs=/ca.pem",
    "sentinel://:pw@a:1/5?ssl_ca_certs=/ca.pem; b:2",
    "sentinel://a:1/5;sentinel://:pw@b:2?ssl_ca_certs=/ca.pem",
  ])("%s names several sentinels of one master, whichever of them tells what is for Redis", (url) => {
    expect(parseRedisUrl(url)).toMatchObject({
      ok: true,
      server: {
        password: "pw",
        db: 5,
        tls: { ...VERIFIED, caFile: "/ca.pem" },
        sentinels: [
          { host: "a", port: 1 },
          { host: "b", port: 2 },
        ],
      },
    });
  });

  it.each([
    ["http://:secret@h", /must be a URL that starts with redis:\/\//],
    ["redis://:secret@a;redis://b", /must name one Redis/],
    ["sentinel://:secret@a;redis://b", /must not mix/],
    ["redis://:sec/ret@h", /%2F/],
    ["redis://:12#secret@h", /%23/],
    ["redis://h/secret", /number of a database/],
    ["rediss://:secret@h?ssl_cert_reqs=maybe", /CERT_REQUIRED/],
  ])("says what is wrong with %s, without the password", (url, text) => {
    const parsed = parseRedisUrl(url);
    expect(parsed.ok ? "nothing" : parsed.problem).toMatch(text);
    expect(JSON.stringify(parsed)).not.toMatch(/secret|sec\/ret/);
  });

  it("encrypts the way to the master that sentinels name, and to the sentinels where told so", () => {
    const url = "sentinel://a?ssl_cert_reqs=none";
    expect(redisAddressOf({ url })).toMatchObject({ enableTLSForSentinelMode: true, tls: { rejectUnauthorized: false } });
    expect(redisAddressOf({ url })).not.toHaveProperty("sentinelTLS");
    expect(redisAddressOf({ url, sentinel: { tls: true } })).toMatchObject({ sentinelTLS: { rejectUnauthorized: false } });
    expect(() => redisAddressOf({ url: "sentinel://a", sentinel: { tls: true } })).toThrow(/REDIS_URL: sentinels that speak TLS need/);
  });
});
