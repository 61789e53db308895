/** Serves the web page: one HTML file for every address of a page, and files whose names change with their content. */
import fastifyStatic from "@fastify/static";
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { SecurityHeadersOptions } from "@celery-metrics-exporter/access";
import type { FastifyInstance } from "fastify";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";

/** The same from `src`, from `dist`, and from the bundle of an app that contains this role. */
const CLIENT = resolve(import.meta.dirname, "../../web/dist/client");

/** The addresses of pages, besides that of the overview. Each is one segment, so that relative addresses of files and of the API fit all of them. */
export const PAGES = ["tasks", "task", "failures", "types", "workers", "worker", "queues", "live", "about"];

const LOGINS = ["login", "callback", "password", "logout", "logged-out"];
const OURS = `(?:api/v1/|auth/(?:${LOGINS.join("|")})(?:[?]|$)|assets/|(?:${PAGES.join("|")})?(?:[?]|$))`;
/** Where `api/tasks` would otherwise be the page `tasks` below the prefix `/api`. */
const OF_FLOWER = "api/(?:(?:workers|tasks|queues/length)(?:[?]|$)|worker/|task/)";

function prefixOf(...ours: readonly string[]): RegExp {
  return new RegExp(`^/(?:[^?]*?/)??(?=${ours.join("|")})`);
}

const PREFIX = prefixOf(OURS);
const PREFIX_WITH_FLOWER = prefixOf(OF_FLOWER, OURS);

/** The address without the prefix of a reverse proxy that keeps it: `/celery/tasks` is `/tasks`. So a prefix needs no setting. */
export function withoutPrefix(url: string, hasFlower = false): string {
  return url.replace(hasFlower ? PREFIX_WITH_FLOWER : PREFIX, "/");
}

export const SECURITY_HEADERS: SecurityHeadersOptions = {
  directives: {
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
    requireTrustedTypesFor: ["'script'"],
    trustedTypes: ["'none'"],
  },
  isStatic: (url) => url.startsWith("/assets/"),
};

/** Of Vite: what it made of each source. */
type Manifest = Readonly<Record<string, { readonly file: string; readonly imports?: readonly string[] }>>;

/** The scripts of a page that is loaded when it is opened: the browser need not wait for the first script to learn of them. */
function filesOf(manifest: Manifest, source: string): string[] {
  const { file, imports = [] } = manifest[source] ?? {};
  return file === undefined ? [] : [...new Set([file, ...imports.flatMap((each) => filesOf(manifest, each))])];
}

/** Addresses that no person opens. Everywhere else, the page says that there is nothing, and where one can go. */
const NO_PAGE = /^\/(?:api|auth|assets)(?:\/|$)/;

/** Where one may look for a task, as in Flower: `/task/<id>`, also below a prefix. Its page has the id in the query. */
const TASK_PATH = /\/tasks?\/([^/?]+)$/;

/** The address of a task's page, relative to the one that was asked for; undefined if that names no task. */
function taskPageOf(url: string): string | undefined {
  try {
    const id = TASK_PATH.exec(url)?.[1];
    return id === undefined ? undefined : `../task?id=${encodeURIComponent(decodeURIComponent(id))}`;
  } catch {
    // Wrongly encoded.
    return undefined;
  }
}

const YEAR_MS = 365 * 86_400_000;

/** Adds the page, if it was built. */
export async function addPage(server: FastifyInstance, logger: Logger): Promise<void> {
  const html = await readFile(join(CLIENT, "index.html"), "utf8").catch(() => undefined);
  if (html === undefined) {
    logger.warn({ folder: CLIENT }, "there is no web page, because it was not built: run pnpm build");
    return;
  }
  const manifest = JSON.parse(await readFile(join(CLIENT, "manifest.json"), "utf8")) as Manifest;
  await server.register(fastifyStatic, { root: CLIENT, serve: false, preCompressed: true, immutable: true, maxAge: YEAR_MS });
  for (const page of ["", ...PAGES]) {
    const files = filesOf(manifest, `pages/${page === "" ? "overview" : page}.tsx`);
    const links = files.filter((file) => !html.includes(file)).map((file) => `<link rel="modulepreload" href="./${file}">`);
    const ofPage = html.replace("</head>", `${links.join("")}</head>`);
    server.get(`/${page}`, { config: { role: "viewer" }, schema: { hide: true } }, (_request, reply) =>
      reply.type("text/html; charset=utf-8").send(ofPage),
    );
  }
  // Bytes, because texts with this status become the page of a refusal.
  const unknown = Buffer.from(html);
  server.get("/*", { config: { role: "viewer" }, schema: { hide: true } }, ({ url, headers }, reply) => {
    if (NO_PAGE.test(url) || headers.accept?.includes("text/html") !== true) return reply.callNotFound();
    const taskPage = taskPageOf(url);
    if (taskPage !== undefined) return reply.redirect(taskPage);
    return reply.code(404).type("text/html; charset=utf-8").send(unknown);
  });
  server.get<{ Params: { readonly "*": string } }>(
    "/assets/*",
    { config: { role: "viewer" }, schema: { hide: true } },
    ({ params }, reply) => reply.sendFile(`assets/${params["*"]}`),
  );
}
