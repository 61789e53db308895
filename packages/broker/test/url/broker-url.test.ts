import { describe, expect, it } from "vitest";
import { brokerUrlWarnings, parseBrokerUrl } from "../../src/url/broker-url.ts";

function servers(url: string): readonly unknown[] {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.url.servers;
}

function problem(url: string): string {
  const parsed = parseBrokerUrl(url);
  if (parsed.ok) throw new Error("was accepted");
  return parsed.problem;
}

const VERIFIED = { verify: true, checkHostname: true };

describe("parseBrokerUrl", () => {
  it.each([
    ["amqp://", { host: "127.0.0.1", port: 5672, vhost: "/" }],
    ["amqp://host", { host: "host", port: 5672, vhost: "/" }],
    ["amqp://host/", { host: "host", port: 5672, vhost: "/" }],
    ["amqp://host//", { host: "host", port: 5672, vhost: "/" }],
    ["amqp://host/%2F", { host: "host", port: 5672, vhost: "/" }],
    ["amqp://host/%2Fa%20b", { host: "host", port: 5672, vhost: "/a b" }],
    ["amqp://host//shop", { host: "host", port: 5672, vhost: "/shop" }],
    ["amqp://host/shop", { host: "host", port: 5672, vhost: "shop" }],
    ["AMQP://HOST:1234/Shop", { host: "host", port: 1234, vhost: "Shop" }],
    ["pyamqp://u:p@host:5673/v", { host: "host", port: 5673, username: "u", password: "p", vhost: "v" }],
    ["py-amqp://host/v", { host: "host", port: 5672, vhost: "v" }],
    ["amqp://u%40x:p%2F%3A@host", { host: "host", port: 5672, username: "u@x", password: "p/:", vhost: "/" }],
    ["amqp://u:p@ss:word@host", { host: "host", port: 5672, username: "u", password: "p@ss:word", vhost: "/" }],
    ["amqp://u:100%@host", { host: "host", port: 5672, username: "u", password: "100%", vhost: "/" }],
    ["amqp://[::1]:5673/v", { host: "::1", port: 5673, vhost: "v" }],
    ["amqps://host/v", { host: "host", port: 5671, vhost: "v", tls: VERIFIED }],
    ["amqp://host/v?heartbeat=30", { host: "host", port: 5672, vhost: "v" }],
    ["amqp://host/v?login_method=PLAIN", { host: "host", port: 5672, vhost: "v" }],
    ["amqp://host/v?login_method=amqplain", { host: "host", port: 5672, vhost: "v", login: "AMQPLAIN" }],
    [
      "amqps://host/v?login_method=EXTERNAL&ssl_certfile=/c.pem",
      { host: "host", port: 5671, vhost: "v", tls: { ...VERIFIED, certFile: "/c.pem" }, login: "EXTERNAL" },
    ],
    ["amqp://u:a,b@host/a,b", { host: "host", port: 5672, username: "u", password: "a,b", vhost: "a,b" }],
  ])("parses %s as a RabbitMQ server", (url, server) => {
    expect(parseBrokerUrl(url)).toEqual({ ok: true, url: { broker: "rabbitmq", servers: [server] } });
  });

  it.each([
    ["redis://", { host: "127.0.0.1", port: 6379, db: 0 }],
    ["redis://host/", { host: "host", port: 6379, db: 0 }],
    ["redis://host/3", { host: "host", port: 6379, db: 3 }],
    ["redis://host//3", { host: "host", port: 6379, db: 3 }],
    ["redis://host?virtual_host=4", { host: "host", port: 6379, db: 4 }],
    ["redis://:pw@host:6380/1", { host: "host", port: 6380, password: "pw", db: 1 }],
    ["redis://user:pw@host", { host: "host", port: 6379, username: "user", password: "pw", db: 0 }],
    ["rediss://host/1", { host: "host", port: 6379, db: 1, tls: VERIFIED }],
    ["redis+socket:///run/redis.sock?virtual_host=2", { host: "127.0.0.1", port: 0, db: 2, socketPath: "/run/redis.sock" }],
  ])("parses %s as a Redis server", (url, server) => {
    expect(parseBrokerUrl(url)).toEqual({ ok: true, url: { broker: "redis", servers: [server] } });
  });

  it.each([
    ["rediss://h?ssl_cert_reqs=CERT_NONE", { verify: false, checkHostname: true }],
    ["rediss://h?ssl_cert_reqs=none", { verify: false, checkHostname: true }],
    ["rediss://h?ssl_cert_reqs=CERT_OPTIONAL", VERIFIED],
    ["rediss://h?ssl_cert_reqs=required&ssl_check_hostname=false", { verify: true, checkHostname: false }],
    ["amqps://10.0.0.1//?ssl_server_hostname=broker.test", { ...VERIFIED, serverName: "broker.test" }],
    [
      "amqps://h//?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
      { ...VERIFIED, caFile: "/ca.pem", certFile: "/c.pem", keyFile: "/k.pem" },
    ],
    ["redis://h?ssl_ca_certs=/ca.pem", { ...VERIFIED, caFile: "/ca.pem" }],
    ["amqp://h//?ssl=true", VERIFIED],
  ])("accepts the TLS settings of %s", (url, tls) => {
    expect(servers(url)).toMatchObject([{ tls }]);
  });

  it("uses port 5671 for amqp with TLS settings, as kombu does", () => {
    expect(servers("amqp://h//?ssl=true")).toMatchObject([{ port: 5671 }]);
  });

  it("parses a failover list, whose entries may be only hosts", () => {
    expect(servers("amqp://u:p@a:1/v ; amqp://b//;c:3;")).toEqual([
      { host: "a", port: 1, username: "u", password: "p", vhost: "v" },
      { host: "b", port: 5672, vhost: "/" },
      { host: "c", port: 3, username: "u", password: "p", vhost: "v" },
    ]);
  });

  it("parses a list of sentinels as one server with the credentials of the first", () => {
    expect(servers("sentinel://:pw@a:26379/2;sentinel://b;sentinel://c:26381")).toEqual([
      {
        host: "a",
        port: 26379,
        password: "pw",
        db: 2,
        sentinels: [
          { host: "a", port: 26379 },
          { host: "b", port: 26379 },
          { host: "c", port: 26381 },
        ],
      },
    ]);
  });

  it.each([
    ["", /empty/],
    ["localhost:5672", /must be a URL.*supported schemes: amqp/],
    ["redis+cluster://u:secret@h,i", /events from a Redis Cluster are not supported; supported: amqp/],
    ["http://u:secret@h", /scheme http is not supported; supported: amqp, amqps, pyamqp, redis, rediss/],
    ["constructor://h", /scheme constructor is not supported; supported: amqp/],
    ["sqs://key:secret@", /scheme sqs do not carry events/],
    ["SQS://key:secret@", /do not carry events/],
    ["sqla+sqlite:///x.db", /do not carry events/],
    ["kafka://h", /do not carry events/],
    ["amqp://u:secret@h:port", /port is not a number/],
    ["redis://:sec/ret@h", /must be escaped.*%2F/],
    ["amqp://u:12/secret@h", /must be escaped.*%2F/],
    ["amqp://u:12#secret@h", /must be escaped.*%23/],
    ["redis://:12?secret@h", /must be escaped.*%3F/],
    ["amqp://u:secret@h:99999", /port is not a number/],
    ["redis://:secret@h/shop", /number of a database/],
    ["redis+socket://", /path of a socket/],
    ["rediss://:secret@h?ssl_cert_reqs=maybe", /CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE/],
    ["amqp://u:secret@h;redis://h", /same kind/],
    ["redis://:secret@h;sentinel://h", /same kind/],
    ["amqp://u:secret@h1:5672,h2:5672//", /several hosts.*separate several servers with ;/],
    ["amqp://u:secret@h1,h2//", /several hosts.*with ;/],
    ["amqp://u:secret@h1;h2,h3", /several hosts.*with ;/],
    ["amqp://u:secret@h1//,amqp://u:secret@h2//", /several URLs.*with ;/],
    ["amqp://u:secret@h1 amqp://u:secret@h2", /several URLs.*with ;/],
    ["sentinel://:secret@a:26379,b:26379/0", /several hosts.*with ; such as sentinel:\/\/host1:26379;sentinel:/],
    ["redis://:secret@a:6379, b:6379/0", /several hosts.*with ;/],
    ['["amqp://u:secret@h1", "amqp://u:secret@h2"]', /is a list: separate several servers with ;/],
    ["['amqp://u:secret@h1']", /is a list/],
    ['"amqp://u:secret@h1"', /quotation mark/],
    ["amqp://u:secret@h//?login_method=GSSAPI", /login_method must be PLAIN, AMQPLAIN or EXTERNAL/],
    ["amqp://u:secret@h//?login_method=EXTERNAL", /logs in with a client certificate.*amqps.*ssl_certfile/],
    ["amqps://u:secret@h//?login_method=EXTERNAL", /ssl_certfile and ssl_keyfile/],
    ["amqp://u:secret@h;amqps://h//?login_method=external", /ssl_certfile/],
  ])("reports the problem of %s, without the password", (url, text) => {
    expect(problem(url)).toMatch(text);
    expect(problem(url)).not.toMatch(/secret|sec\/ret/);
  });
});

describe("brokerUrlWarnings", () => {
  it.each([
    ["amqp://h//", []],
    ["amqps://h//?heartbeat=30&connect_timeout=4&login_method=PLAIN&ssl_ca_certs=/ca.pem", []],
    ["redis://h/0?virtual_host=1&socket_timeout=5&visibility_timeout=43200&health_check_interval=25", []],
    ["amqp://h//?hartbeat=30", ["the unknown setting hartbeat is ignored: did you mean heartbeat?"]],
    ["amqp://h//?login-method=PLAIN", [expect.stringContaining("did you mean login_method?")]],
    ["amqp://h//?constructor=1", [expect.stringMatching(/^the unknown setting constructor is ignored: known settings: ssl/)]],
    ["amqp://h//;h2//?schema=secret", [expect.stringMatching(/^the unknown setting schema is ignored: known settings: ssl/)]],
    ["amqps://h//?ssl_ca_cert=secret", ["the unknown setting ssl_ca_cert is ignored: did you mean ssl_ca_certs?"]],
    ["rediss://h?ssl_cert_req=none", ["the unknown setting ssl_cert_req is ignored: did you mean ssl_cert_reqs?"]],
    ["sentinel://h?master_name=shop", ["the setting master_name is ignored in the URL: set CELERY_SENTINEL_MASTER_NAME"]],
    ["redis://h?global_keyprefix=app:", [expect.stringContaining("set CELERY_GLOBAL_KEYPREFIX")]],
    ["rediss://h?ssl_ciphers=secret", ["the setting ssl_ciphers is not supported and ignored"]],
    ["amqp://h//?secret%20text=1", [expect.stringContaining("the unknown setting after the ? is ignored")]],
    ["http://h?x=1", []],
  ])("of %s", (url, warnings) => {
    expect(brokerUrlWarnings(url)).toEqual(warnings);
    expect(String(brokerUrlWarnings(url))).not.toContain("secret");
  });
});
