/** Splits a URL the way Python's `urllib.parse` does: a password may hold `@` and `:`, and an undecodable `%` stays as it is. */

export interface UrlParts {
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Without the first slash, decoded; undefined when nothing is left. */
  readonly path: string | undefined;
  readonly query: URLSearchParams;
}

/** `problem` never repeats the URL: it may hold a password. */
export type ParsedUrlParts = { readonly ok: true; readonly parts: UrlParts } | { readonly ok: false; readonly problem: string };

const ESCAPES = "write / ? # : @ ; in a user name or password as %2F %3F %23 %3A %40 %3B";

export function parseUrlParts(url: string): ParsedUrlParts {
  const match = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(.*)$/is.exec(url);
  if (match === null) return { ok: false, problem: "is not a URL" };
  const [, authority = "", path = "", query = "", fragment = ""] = match;
  // What comes after an unescaped / ? or # of a password looks like a path, and what comes before it like a host.
  if (fragment !== "" || path.includes("@") || query.includes("@"))
    return { ok: false, problem: `holds a character that must be escaped (${ESCAPES})` };
  const at = authority.lastIndexOf("@");
  const userinfo = at === -1 ? "" : authority.slice(0, at);
  const colon = userinfo.indexOf(":");
  const address = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(authority.slice(at + 1));
  const port = address?.[2] ?? "";
  if (address === null || !/^\d{0,5}$/.test(port) || Number(port) > 65535) {
    return { ok: false, problem: `the port is not a number (${ESCAPES})` };
  }
  return {
    ok: true,
    parts: {
      host: nonEmpty(unquote((address[1] ?? "").replace(/^\[|\]$/g, "").toLowerCase())),
      port: port === "" ? undefined : Number(port),
      username: nonEmpty(unquote(colon === -1 ? userinfo : userinfo.slice(0, colon))),
      password: nonEmpty(unquote(colon === -1 ? "" : userinfo.slice(colon + 1))),
      path: nonEmpty(unquote(path)),
      query: new URLSearchParams(query),
    },
  };
}

function unquote(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function nonEmpty(text: string): string | undefined {
  return text === "" ? undefined : text;
}

// URLs fit for logs and messages.

/**
 * A URL, or a `;`-separated list of them, without user, password and query: fit for a log. What looks like a password is one, and where
 * nobody can tell where it ends nothing is shown.
 */
export function redactUrl(value: string): string {
  return value
    .split(/;(?=[a-z][a-z0-9+.-]*:\/\/)/i)
    .map(redactOne)
    .join(";");
}

/** The last `@` ends the password, whatever comes before: also a `;` that looks like the end of the URL. */
function redactOne(text: string): string {
  const [, scheme = "", secrets, rest = ""] = /^([a-z][a-z0-9+.-]*:\/\/)?(?:(.*)@)?(.*)$/is.exec(text) ?? [];
  if (secrets === undefined) return scheme + withoutQuery(rest);
  // A query before the last `@` may be a part of the password, and what comes after a part of a query.
  if (/[?#]/.test(secrets)) return `${scheme}***`;
  // Another entry of a list without a scheme, or a part of the password: then it is only said that there is something.
  return `${scheme}${/@[^@]*;/.test(secrets) ? "***;***" : "***"}@${withoutQuery(rest)}`;
}

function withoutQuery(text: string): string {
  return text.replace(/[?#][^;]*/gs, "");
}
