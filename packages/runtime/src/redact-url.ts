/** URLs fit for logs and messages. */

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
