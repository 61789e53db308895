/** Scrapes over a real socket: formats, methods, tokens, TLS, and what a scrape without Redis gets. */
import { readFileSync } from "node:fs";
import { request as requestHttps } from "node:https";
import { gunzipSync } from "node:zlib";
import { UnavailableError, createLogger, listen } from "@celery-metrics-exporter/runtime";
import { certificate } from "@celery-metrics-exporter/testkit";
import { afterEach, describe, expect, it } from "vitest";
import { type ExpositionOptions, expositionServer } from "../../src/exposition/server.ts";
import type { Family, Sample } from "../../src/exposition/text.ts";

const FAMILIES: readonly Family[] = [
  {
    name: "celery_task_sent",
    type: "counter",
    help: "Sent.",
    samples: Array.from({ length: 40 }, (_, index) => ({ suffix: "_total", labels: { name: `task-${index} ✓` }, value: index })),
  },
];

function* failingSamples(): Generator<Sample> {
  for (let index = 0; index < 20_000; index += 1) yield { suffix: "_total", labels: { name: `task-${index}` }, value: index };
  throw new Error("no more");
}

let close: (() => Promise<unknown>) | undefined;
afterEach(async () => {
  await close?.();
  close = undefined;
});

async function serve(options: Partial<ExpositionOptions> = {}): Promise<string> {
  const server = expositionServer({
    families: async () => FAMILIES,
    staticLabels: {},
    bearerToken: undefined,
    tls: undefined,
    logger: createLogger("prometheus", "silent"),
    ...options,
  });
  close = () => server.close();
  return listen(server, { host: "127.0.0.1", port: 0, settings: "PROMETHEUS_PORT" });
}

describe("/metrics", () => {
  it("answers in the format that is asked for", async () => {
    const url = await serve({ staticLabels: { env: "prod" } });
    const text = await fetch(`${url}/metrics`);
    expect(text.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await text.text()).toContain('celery_task_sent_total{env="prod",name="task-3 ✓"} 3.0\n');
    const openmetrics = await fetch(`${url}/metrics`, { headers: { accept: "application/openmetrics-text; version=1.0.0" } });
    expect(openmetrics.headers.get("content-type")).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
    expect(openmetrics.headers.get("vary")).toBe("accept, accept-encoding");
    expect(openmetrics.headers.get("cache-control")).toBe("no-store");
    expect((await openmetrics.text()).endsWith("\n# EOF\n")).toBe(true);
  });

  it.each([
    ["gzip", true],
    ["deflate, gzip;q=0.5", true],
    ["gzip;q=0", false],
    ["gzip; q=0.0, identity", false],
    ["identity", false],
  ])("with Accept-Encoding: %s, is compressed: %s", async (encoding, isCompressed) => {
    const url = await serve();
    const plain = await (await fetch(`${url}/metrics`, { headers: { "accept-encoding": "identity" } })).text();
    const response = await fetch(`${url}/metrics`, { headers: { "accept-encoding": encoding } });
    expect(response.headers.get("content-encoding")).toBe(isCompressed ? "gzip" : null);
    expect(await response.text()).toBe(plain);
  });

  it("answers with a long text, compressed or not", async () => {
    const samples = Array.from({ length: 20_000 }, (_, index) => ({ suffix: "_total", labels: { name: `task-${index} ✓` }, value: index }));
    const url = await serve({ families: async () => [{ name: "celery_task_sent", type: "counter", help: "Sent.", samples }] });
    const bodies = await Promise.all(
      ["identity", "gzip"].map(async (encoding) => {
        const response = await fetch(`${url}/metrics`, { headers: { "accept-encoding": encoding } });
        expect(response.headers.get("content-encoding")).toBe(encoding === "gzip" ? "gzip" : null);
        expect(Number(response.headers.get("content-length"))).toBeGreaterThan(0);
        return response.text();
      }),
    );
    expect(bodies[0]?.split("\n")).toHaveLength(20_003);
    expect(bodies[0]).toContain('celery_task_sent_total{name="task-19999 ✓"} 19999.0\n');
    expect(bodies[1]).toBe(bodies[0]);
  });

  it("answers with an error, compressed or not, if the text cannot be written", async () => {
    const url = await serve({
      families: async () => [{ name: "celery_task_sent", type: "counter", help: "Sent.", samples: failingSamples() }],
    });
    for (const encoding of ["identity", "gzip"]) {
      expect((await fetch(`${url}/metrics`, { headers: { "accept-encoding": encoding } })).status, encoding).toBe(500);
    }
  });

  it("writes the answer once for scrapes that come at the same time", async () => {
    let looks = 0;
    const url = await serve({
      families: async () => {
        looks += 1;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return FAMILIES;
      },
    });
    const answers = await Promise.all(Array.from({ length: 50 }, async () => (await fetch(`${url}/metrics`)).text()));
    expect(new Set(answers).size).toBe(1);
    expect(looks).toBeLessThan(10);
    await fetch(`${url}/metrics`);
    expect(looks).toBeGreaterThan(1);
  });

  it("sends a short answer as it is", async () => {
    const url = await serve({ families: async () => [] });
    expect((await fetch(`${url}/metrics`, { headers: { "accept-encoding": "gzip" } })).headers.get("content-encoding")).toBeNull();
  });

  it("answers HEAD without a body, and refuses other methods", async () => {
    const url = await serve();
    const head = await fetch(`${url}/metrics`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const refused = await fetch(`${url}/metrics`, { method });
      expect([refused.status, refused.headers.get("allow")], method).toEqual([405, "GET, HEAD"]);
    }
    expect((await fetch(`${url}/other`)).status).toBe(404);
  });

  it("says when the counts cannot be read, and hides what is not meant for clients", async () => {
    const away = await serve({ families: () => Promise.reject(new UnavailableError("The counts cannot be read.")) });
    for (const path of ["/metrics", "/health"]) {
      const response = await fetch(`${away}${path}`);
      expect([response.status, await response.text()], path).toEqual([503, "The counts cannot be read.\n"]);
    }
    await close?.();
    const broken = await serve({ families: () => Promise.reject(new Error("secret")) });
    const response = await fetch(`${broken}/metrics`);
    expect([response.status, await response.text()]).toEqual([500, "Internal error.\n"]);
  });
});

describe("/flower/metrics", () => {
  const flower = FAMILIES.map((family) => ({ ...family, name: "flower_events" }));
  const flowerFamilies = async (): Promise<readonly Family[]> => flower;

  it("is not there unless it is switched on", async () => {
    const url = await serve();
    expect((await fetch(`${url}/flower/metrics`)).status).toBe(404);
  });

  it("answers as /metrics does", async () => {
    const url = await serve({ flowerFamilies, staticLabels: { env: "prod" } });
    const get = async (path: string, headers: Record<string, string>): Promise<[Record<string, string>, string]> => {
      const { headers: answered, ...response } = await fetch(`${url}${path}`, { headers }).then(async (got) => ({
        headers: Object.fromEntries(got.headers),
        text: await got.text(),
      }));
      const { date: _date, "content-length": _length, "transfer-encoding": _encoding, ...rest } = answered;
      return [rest, response.text];
    };
    for (const headers of [
      { "accept-encoding": "gzip" },
      { "accept-encoding": "identity", accept: "application/openmetrics-text" },
    ] as Record<string, string>[]) {
      const [own, text] = await get("/flower/metrics", headers);
      const [others, othersText] = await get("/metrics", headers);
      expect(own).toEqual(others);
      expect(text).toBe(othersText.replaceAll("celery_task_sent", "flower_events"));
    }
    const head = await fetch(`${url}/flower/metrics`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect((await fetch(`${url}/flower/metrics`, { method: "POST" })).status).toBe(405);
  });

  it("needs the token, and says when the counts cannot be read", async () => {
    const url = await serve({
      flowerFamilies: () => Promise.reject(new UnavailableError("The counts cannot be read.")),
      bearerToken: "a-long-token",
    });
    expect((await fetch(`${url}/flower/metrics`)).status).toBe(401);
    const response = await fetch(`${url}/flower/metrics`, { headers: { authorization: "Bearer a-long-token" } });
    expect([response.status, await response.text()]).toEqual([503, "The counts cannot be read.\n"]);
  });
});

describe("with a token", () => {
  const bearerToken = "a-long-token";

  it.each([
    ["right", `Bearer ${bearerToken}`, 200],
    ["wrong", "Bearer another-token", 401],
    ["of the same length", "Bearer a-long-tokem", 401],
    ["only begun", "Bearer a-long", 401],
    ["without its scheme", bearerToken, 401],
    ["missing", undefined, 401],
  ])("that is %s", async (_, authorization, status) => {
    const url = await serve({ bearerToken });
    for (const path of ["/metrics", "/", "/other"]) {
      const response = await fetch(`${url}${path}`, { headers: authorization === undefined ? {} : { authorization } });
      expect(response.status, path).toBe(status === 200 && path === "/other" ? 404 : status);
      expect(response.headers.get("www-authenticate")).toBe(status === 401 ? "Bearer" : null);
    }
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  it("compares it in a time that does not depend on where it differs", () => {
    const source = readFileSync(new URL("../../src/exposition/server.ts", import.meta.url), "utf8");
    expect(source).toContain("timingSafeEqual(");
  });
});

it("serves HTTPS with a certificate", async () => {
  const tls = { cert: readFileSync(certificate("server")), key: readFileSync(certificate("server-key")) };
  const port = new URL(await serve({ tls })).port;
  const ask = (ca: "ca" | "other-ca"): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const options = { ca: readFileSync(certificate(ca)), headers: { "accept-encoding": "gzip" }, family: 4 };
      requestHttps(`https://localhost:${port}/metrics`, options, async (response) => {
        resolve(Buffer.concat(await response.toArray()));
      })
        .on("error", reject)
        .end();
    });
  expect(gunzipSync(await ask("ca")).toString()).toContain('celery_task_sent_total{name="task-39 ✓"} 39.0\n');
  await expect(ask("other-ca")).rejects.toThrow("certificate");
  await expect(fetch(`http://127.0.0.1:${port}/metrics`)).rejects.toThrow("fetch failed");
});
