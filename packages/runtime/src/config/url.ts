/** Splits a URL like Python's `urllib.parse`: a password may contain `@` and `:`, and an undecodable `%` is kept. */

export interface UrlParts {
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Decoded, without the first slash; undefined if empty. */
  readonly path: string | undefined;
  readonly query: URLSearchParams;
}

/** `problem` never quotes the URL, which may contain a password. */
export type ParsedUrlParts = { readonly ok: true; readonly parts: UrlParts } | { readonly ok: false; readonly problem: string };

const ESCAPES = "write / ? # : @ ; in a user name or password as %2F %3F %23 %3A %40 %3B";

export function parseUrlParts(url: string): ParsedUrlParts {
  const match = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(.*)$/is.exec(url);
  if (match === null) return { ok: false, problem: "is not a URL" };
  const [, authority = "", path = "", query = "", fragment = ""] = match;
  // If a password contains an unescaped / ? or #, the text after it looks like a path and the text before it like a host.
  if (fragment !== "" || path.includes("@") || query.includes("@"))
    return { ok: false, problem: `contains a character that must be escaped (${ESCAPES})` };
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

// Redaction for logs and messages.

/**
 * Removes user, password and query from a URL or a `;`-separated list of URLs. Anything that looks like a password counts as one. If its end
 * is ambiguous, nothing after it is shown.
 */
export function redactUrl(value: string): string {
  return value
    .split(/;(?=[a-z][a-z0-9+.-]*:\/\/)/i)
    .map(redactOne)
    .join(";");
}

/** The last `@` ends the password, even after a `;` that looks like the end of the URL. */
function redactOne(text: string): string {
  const [, scheme = "", secrets, rest = ""] = /^([a-z][a-z0-9+.-]*:\/\/)?(?:(.*)@)?(.*)$/is.exec(text) ?? [];
  if (secrets === undefined) return scheme + withoutQuery(rest);
  // A query before the last `@` may be part of the password, and the text after the `@` may be part of the query.
  if (/[?#]/.test(secrets)) return `${scheme}***`;
  // Either another list entry without a scheme or part of the password: shows only that something was there.
  return `${scheme}${/@[^@]*;/.test(secrets) ? "***;***" : "***"}@${withoutQuery(rest)}`;
}

function withoutQuery(text: string): string {
  return text.replace(/[?#][^;]*/gs, "");
}
