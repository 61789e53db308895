/** The HTTP server that Prometheus scrapes. */
import { createHash, timingSafeEqual } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { createGzip } from "node:zlib";
import { UnavailableError, createWebServer, toError, type Logger } from "@celery-metrics-exporter/runtime";
import { CONTENT_TYPES, type Family, type Format, TextWriter, formatFor } from "./text.ts";

export interface ExpositionOptions {
  /** @throws {UnavailableError} if they cannot be shown completely. */
  readonly families: () => Promise<readonly Family[]>;
  /** Those of `/flower/metrics`; undefined if there are none. Throws the same. */
  readonly flowerFamilies?: (() => Promise<readonly Family[]>) | undefined;
  /** Added to every series. */
  readonly staticLabels: Readonly<Record<string, string>>;
  readonly bearerToken: string | undefined;
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly logger: Logger;
}

/** Shorter answers fit a packet. */
const WORTH_COMPRESSING = 1_024;
/** How much more memory the next answer gets at once. */
const MARGIN = 1.1;

const FLOWER_IS_OFF = "Flower's metrics are off. Set PROMETHEUS_FLOWER_METRICS=true.\n";
const START_PAGE = `<!doctype html><title>celery-metrics-exporter</title><p><a href="metrics">Metrics</a>`;

/** Creates the server without listening: `/metrics`, `/flower/metrics` if there are such families, `/health`, and `/` with a link. Answers GET and HEAD. */
export function expositionServer({
  families,
  flowerFamilies,
  staticLabels,
  bearerToken,
  tls,
  logger,
}: ExpositionOptions): ReturnType<typeof createWebServer> {
  const server = createWebServer(tls === undefined ? {} : { tls });
  server.addHook("onRequest", async ({ method, headers, url }, reply) => {
    reply.headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
    if (method !== "GET" && method !== "HEAD") return reply.code(405).header("allow", "GET, HEAD").send("Only GET and HEAD.\n");
    const isPublic = url === "/health";
    if (bearerToken === undefined || isPublic || isEqual(headers.authorization ?? "", `Bearer ${bearerToken}`)) return;
    return reply.code(401).header("www-authenticate", "Bearer").send("The bearer token is missing or wrong.\n");
  });
  server.setErrorHandler((thrown, _request, reply) => {
    const error = toError(thrown);
    if (error instanceof UnavailableError) return reply.code(503).type("text/plain; charset=utf-8").send(`${error.message}\n`);
    logger.error({ err: error }, "could not answer a scrape");
    return reply.code(500).type("text/plain; charset=utf-8").send("Internal error.\n");
  });
  server.get("/", (_request, reply) => reply.type("text/html; charset=utf-8").send(START_PAGE));
  server.get("/health", async (_request, reply) => {
    await families();
    return reply.type("text/plain; charset=utf-8").send("ok\n");
  });
  const show = (path: string, shown: () => Promise<readonly Family[]>): void => {
    const answers = (format: Format): Readonly<Record<"plain" | "gzip", () => Promise<Answer>>> => {
      const writer = new TextWriter(format, staticLabels);
      const joined = joining();
      return {
        plain: shared(async () => ({ body: await joined(writer.write(await shown())), isCompressed: false })),
        gzip: shared(async () => compressed(writer.write(await shown()))),
      };
    };
    const byFormat = { text: answers("text"), openmetrics: answers("openmetrics") };
    server.get(path, async ({ headers }, reply) => {
      const format = formatFor(headers.accept);
      const takesGzip = /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(headers["accept-encoding"] ?? "");
      const { body, isCompressed } = await byFormat[format][takesGzip ? "gzip" : "plain"]();
      reply.type(CONTENT_TYPES[format]).header("vary", "accept, accept-encoding");
      if (isCompressed) reply.header("content-encoding", "gzip");
      return reply.send(body);
    });
  };
  show("/metrics", families);
  if (flowerFamilies !== undefined) show("/flower/metrics", flowerFamilies);
  else server.get("/flower/metrics", (_request, reply) => reply.code(404).type("text/plain; charset=utf-8").send(FLOWER_IS_OFF));
  return server;
}

/** What a scrape gets. */
interface Answer {
  readonly body: Buffer;
  readonly isCompressed: boolean;
}

/** Compresses parts as they are written: the text is up to fifty times as long. */
async function compressed(written: AsyncGenerator<Buffer, undefined>): Promise<Answer> {
  const { value: first = Buffer.alloc(0) } = await written.next();
  if (first.length < WORTH_COMPRESSING) return { body: Buffer.from(first), isCompressed: false };
  const gzip = createGzip({ level: 1 });
  const body = buffer(gzip);
  // A part is compressed before the next one takes its place.
  const compress = async (part: Buffer): Promise<void> =>
    new Promise((resolve, reject) => gzip.write(part, (error) => (error ? reject(error) : resolve())));
  try {
    await compress(first);
    for await (const part of written) await compress(part);
    gzip.end();
  } catch (thrown) {
    gzip.destroy(toError(thrown));
  }
  return { body: await body, isCompressed: true };
}

/** In as much memory as the last answer took: memory that is outside of the heap makes V8 collect all of it. */
function joining(): (parts: AsyncIterable<Buffer>) => Promise<Buffer> {
  let last = 0;
  return async (parts) => {
    let body = Buffer.allocUnsafeSlow(last);
    let length = 0;
    for await (const part of parts) {
      if (length + part.length > body.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(2 * length, length + part.length));
        body.copy(larger, 0, 0, length);
        body = larger;
      }
      part.copy(body, length);
      length += part.length;
    }
    last = Math.ceil(length * MARGIN);
    return body.subarray(0, length);
  };
}

/** Callers that come while it is made get the same. Many scrapes at once cost no more than one. */
function shared<T>(make: () => Promise<T>): () => Promise<T> {
  let making: Promise<T> | undefined;
  return () => (making ??= make().finally(() => void (making = undefined)));
}

/** In a time that does not depend on where they differ. */
function isEqual(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => createHash("sha256").update(text).digest()) as [Buffer, Buffer];
  return timingSafeEqual(a, b);
}
