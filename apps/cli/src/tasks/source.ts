/** Where `tasks` and `task` ask: a running API, or the same routes in this process over the database. */
import { isEmbedded } from "@celery-metrics-exporter/db";
import { CodedError, UnavailableError, loadConfig, secret, toError, type Environment } from "@celery-metrics-exporter/runtime";
import { openLocalApi, web, type LocalApi } from "web";
import { z } from "zod";
import { PROGRAM, UsageError, type CommandOption } from "../command.ts";
import { withDatabase } from "../defaults/database.ts";
import { withCopy } from "../query/with-copy.ts";

export const Config = z.object({
  DATABASE_URL: web.Config.shape.DATABASE_URL,
  DATABASE_READ_URL: web.Config.shape.DATABASE_READ_URL,
});

/** Not a setting of a command, because settings are options too, and other users of the machine can see options. */
const TokenConfig = z.object({ API_TOKEN: secret(z.string().optional()) });

export const API_OPTION: CommandOption = {
  name: "api",
  value: "URL",
  description:
    "Ask a running API at this address, such as http://127.0.0.1:5555, instead of the database. If it has users, put a token into the variable API_TOKEN, or its file into API_TOKEN_FILE.",
};

/** Asks a route, and returns what it answers as JSON text. */
export type Ask = (route: string, query?: URLSearchParams) => Promise<string>;

export interface SourceOptions {
  /** The option `--api`. */
  readonly api: string | undefined;
  readonly env: Environment;
  /** Without options. */
  readonly environment: Environment;
}

/** @throws {CodedError} if the API or the database cannot be asked, or if the API refuses. */
export async function withSource<T>({ api, env, environment }: SourceOptions, work: (ask: Ask) => Promise<T>): Promise<T> {
  if (api !== undefined) return work(remote(baseOf(api), loadConfig(TokenConfig, environment).API_TOKEN));
  const { DATABASE_URL, DATABASE_READ_URL: url = DATABASE_URL } = loadConfig(Config, withDatabase(env).env);
  const run = async (databaseUrl: string): Promise<T> => {
    const opened = await openLocalApi(databaseUrl, PROGRAM);
    try {
      return await work(local(opened));
    } finally {
      await opened.close();
    }
  };
  return isEmbedded(url) ? withCopy(url, run) : run(url);
}

const PREFIX = "api/v1/";
const TIMEOUT_MS = 30_000;

function local(api: LocalApi): Ask {
  return async (route, query) => {
    const { status, text } = await api.get(`/${PREFIX}${route}${queryOf(query)}`);
    return checked(status, text, "the database");
  };
}

function remote(base: URL, token: string | undefined): Ask {
  return async (route, query) => {
    let status: number;
    let text: string;
    try {
      const answer = await fetch(new URL(`${PREFIX}${route}${queryOf(query)}`, base), {
        headers: { accept: "application/json", ...(token !== undefined && { authorization: `Bearer ${token}` }) },
        // The token is for this address only.
        redirect: "error",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      [status, text] = [answer.status, await answer.text()];
    } catch (thrown) {
      throw new UnavailableError(`The API at ${base.href} does not answer (${reasonOf(thrown)}).`, { cause: thrown });
    }
    return checked(status, text, `the API at ${base.href}`);
  };
}

function queryOf(query: URLSearchParams | undefined): string {
  return query === undefined || query.size === 0 ? "" : `?${query.toString()}`;
}

/** `fetch` has the reason in the cause. */
function reasonOf(thrown: unknown): string {
  const error = toError(thrown);
  return error.cause === undefined ? error.message : toError(error.cause).message || error.message;
}

/** @throws {UsageError} if it is no address of an API. Does not show it, because it may contain a password. */
function baseOf(api: string): URL {
  const url = URL.canParse(api) ? new URL(api) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw new UsageError("--api must be an address such as http://127.0.0.1:5555.");
  if (url.username !== "" || url.password !== "") {
    throw new UsageError("--api must not contain a password, which others can see: put a token into the variable API_TOKEN.");
  }
  url.search = "";
  url.hash = "";
  // The address of the page, of the API, or of any of them below a path.
  url.pathname = `${url.pathname.replace(/\/?(?:api\/v1)?\/?$/, "")}/`;
  return url;
}

const EXIT_NO_PERMISSION = 77;

function checked(status: number, text: string, where: string): string {
  const body = jsonOf(text);
  if (status === 200 && typeof body === "object" && body !== null) return text;
  const { detail } = (typeof body === "object" && body !== null ? body : {}) as { readonly detail?: unknown };
  if (typeof detail !== "string")
    throw new UnavailableError(`There is no API of ${PROGRAM} at ${where} (it answers with status ${status}).`);
  if (status === 400) throw new UsageError(detail);
  if (status === 401 || status === 403) {
    throw new CodedError("ERR_REFUSED", `Refused by ${where}: ${detail} A token in the variable API_TOKEN gives access.`, {
      exitCode: EXIT_NO_PERMISSION,
    });
  }
  if (status === 404) throw new CodedError("ERR_NOT_FOUND", detail);
  throw new UnavailableError(detail);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
