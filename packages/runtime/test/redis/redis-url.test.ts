import { describe, expect, it } from "vitest";
import { BaseConfig, loadConfig, parseRedisUrl, redisAddress, redisServerOf, redisTarget, type SentinelOptions } from "../../src/index.ts";

const LOCAL = { host: "127.0.0.1", port: 6379, db: 0 };
const VERIFIED = { verify: true, checkHostname: true };

const addressOf = (url: string, sentinel?: SentinelOptions) => redisAddress(redisServerOf({ url }), "REDIS_URL", sentinel);
const target = (env: Record<string, string>) => redisTarget(loadConfig(BaseConfig, env));

describe("the URL of a Redis", () => {
  it.each([
    ["redis://", LOCAL],
    ["redis://h:6380/3", { host: "h", port: 6380, db: 3 }],
    ["redis://:p%40ss@h", { host: "h", port: 6379, db: 0, password: "p@ss" }],
    ["redis://:p;a@h", { host: "h", port: 6379, db: 0, password: "p;a" }],
    ["redis://u:p@[::1]/", { host: "::1", port: 6379, db: 0, username: "u", password: "p" }],
    ["redis://h?db=4", { host: "h", port: 6379, db: 4 }],
    ["redis://h/4?db=4", { host: "h", port: 6379, db: 4 }],
    ["rediss://h", { host: "h", port: 6379, db: 0, tls: VERIFIED }],
    ["rediss://h?ssl_cert_reqs=none", { host: "h", port: 6379, db: 0, tls: { verify: false, checkHostname: true } }],
    ["redis+socket:///run/redis.sock?virtual_host=1", { ...LOCAL, port: 0, db: 1, socketPath: "/run/redis.sock" }],
    ["sentinel://a", { host: "a", port: 26379, db: 0, sentinels: [{ host: "a", port: 26379 }] }],
  ])("%s is parsed as in kombu", (url, server) => {
    expect(parseRedisUrl(url)).toEqual({ ok: true, server });
  });

  it.each([
    "sentinel://:pw@a:1;sentinel://b:2/5?ssl_ca_certs=/ca.pem",
    "sentinel://:pw@a:1/5?ssl_ca_certs=/ca.pem; b:2",
    "sentinel://a:1/5;sentinel://:pw@b:2?ssl_ca_certs=/ca.pem",
  ])("%s names several sentinels of one master, in whichever entry the settings for Redis are", (url) => {
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
    ["constructor://h", /must be a URL that starts with redis:\/\//],
    ["http://:secret@h", /must be a URL that starts with redis:\/\//],
    ["redis://:secret@a;redis://b", /must name one Redis/],
    ["sentinel://:secret@a;redis://b", /must not mix/],
    ["redis://:sec/ret@h", /%2F/],
    ["redis://:12#secret@h", /%23/],
    ["redis://h/secret", /number of a database/],
    ["rediss://:secret@h?ssl_cert_reqs=maybe", /CERT_REQUIRED/],
  ])("reports the problem of %s, without the password", (url, text) => {
    const parsed = parseRedisUrl(url);
    expect(parsed.ok ? "nothing" : parsed.problem).toMatch(text);
    expect(JSON.stringify(parsed)).not.toMatch(/secret|sec\/ret/);
  });

  it("encrypts the connection to the master behind sentinels, and to the sentinels if set", () => {
    const url = "sentinel://a?ssl_cert_reqs=none";
    expect(addressOf(url)).toMatchObject({ enableTLSForSentinelMode: true, tls: { rejectUnauthorized: false } });
    expect(addressOf(url)).not.toHaveProperty("sentinelTLS");
    expect(addressOf(url, { tls: true })).toMatchObject({ sentinelTLS: { rejectUnauthorized: false } });
    expect(() => addressOf("sentinel://a", { tls: true })).toThrow(/REDIS_URL: sentinels with TLS require/);
  });
});

describe("the URL of a Redis Cluster", () => {
  const nodes = [
    { host: "a", port: 1 },
    { host: "b", port: 6379 },
    { host: "::1", port: 2 },
  ];

  it.each([
    ["redis+cluster://a:1,b,[::1]:2", { host: "a", port: 1, db: 0, nodes }],
    ["redis+cluster://a:1, b ,[::1]:2,/0", { host: "a", port: 1, db: 0, nodes }],
    ["rediss+cluster://u:p,%40@a:1,b,[::1]:2", { host: "a", port: 1, db: 0, username: "u", password: "p,@", tls: VERIFIED, nodes }],
    ["redis+cluster://a:1,b,[::1]:2?ssl_ca_certs=/ca.pem", { host: "a", port: 1, db: 0, tls: { ...VERIFIED, caFile: "/ca.pem" }, nodes }],
  ])("%s names some of its nodes", (url, server) => {
    expect(parseRedisUrl(url)).toEqual({ ok: true, server });
  });

  it.each([
    ["redis://:secret@a,b/1", /several hosts.*redis\+cluster/],
    ["sentinel://:secret@a:26379,b:26379/0", /separate sentinels with ;/],
    ['["redis://:secret@a"]', /without surrounding brackets/],
    ["'redis://:secret@a'", /without surrounding brackets or quotation marks/],
    ["redis+cluster://:secret@a,b/1", /has only database 0/],
    ["redis+cluster://:secret@a,b?db=1", /has only database 0/],
    ["redis://:secret@a/0?db=1", /two databases: 0 in its path and 1 in a query setting/],
    ["redis+cluster://:secret@a:1,b:x", /port is not a number/],
    ["redis+cluster://:sec/ret@a,b", /%2F/],
    ["redis+cluster://:secret@", /names no node/],
    ["redis+cluster://:secret@a;redis+cluster://b", /separated by commas/],
  ])("reports the problem of %s, without the password", (url, text) => {
    const parsed = parseRedisUrl(url);
    expect(parsed.ok ? "nothing" : parsed.problem).toMatch(text);
    expect(JSON.stringify(parsed)).not.toMatch(/secret|sec\/ret/);
  });

  it("goes with a prefix that keeps a queue in one slot, and a map of addresses", () => {
    const url = "redis+cluster://a";
    expect(target({ REDIS_URL: url, REDIS_CLUSTER_NAT_MAP: "10.0.0.1:6379=a:1, b:2=c:3" })).toMatchObject({
      url,
      clusterNatMap: ["10.0.0.1:6379=a:1", "b:2=c:3"],
    });
    for (const prefix of ["cme", "{}cme", "a{}{b}"]) {
      expect(() => target({ REDIS_URL: url, QUEUE_PREFIX: prefix })).toThrow(/QUEUE_PREFIX: .*braces/);
      expect(target({ REDIS_URL: "redis://a", QUEUE_PREFIX: prefix })).toMatchObject({ url: "redis://a" });
    }
    expect(() => target({ REDIS_CLUSTER_NAT_MAP: "10.0.0.1=a:1" })).toThrow(/REDIS_CLUSTER_NAT_MAP: must be host:port=host:port/);
  });
});
