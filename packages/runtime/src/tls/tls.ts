/** Converts TLS settings to Node's options, and Node's TLS errors to messages for users. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import { ConfigError, toError } from "../errors.ts";

export type TlsOptions = Pick<ConnectionOptions, "rejectUnauthorized" | "checkServerIdentity" | "servername"> & {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
};

export interface TlsContext {
  /** The variable that contains the URL. */
  readonly variable: string;
  readonly names: TlsSettingNames;
  /** The host in the URL. Absent if it is not known yet. */
  readonly host?: string;
}

/**
 * Creates the options. `ca`, `cert` and `key` are getters that reread their files, and return the last content if that fails. Later connections
 * with the same options therefore use renewed certificates.
 *
 * @throws {ConfigError} if a file cannot be read now.
 */
export function toTlsOptions(settings: TlsSettings, { variable, names, host }: TlsContext): TlsOptions {
  const { verify, checkHostname, serverName, caFile, certFile, keyFile } = settings;
  if (keyFile !== undefined && certFile === undefined) {
    throw new ConfigError([`${variable}: ${names.key} requires ${names.cert}, the certificate of that key`]);
  }
  const name = serverName ?? host;
  const options: TlsOptions = {
    rejectUnauthorized: verify,
    checkServerIdentity: checkHostname ? (peer, certificate) => checkServerIdentity(serverName ?? peer, certificate) : () => undefined,
    // Node sends a server name only if set. An IP address is not a name (RFC 6066, section 3).
    ...(name === undefined || isIP(name) !== 0 ? {} : { servername: name }),
  };
  const file = (key: "ca" | "cert" | "key", setting: string, path: string): void => {
    const read = reader(`${variable}: ${setting}`, path);
    Object.defineProperty(options, key, { get: read, enumerable: true, configurable: true });
  };
  if (caFile !== undefined) file("ca", names.ca, caFile);
  if (certFile !== undefined) {
    file("cert", names.cert, certFile);
    // As in Python, the certificate file may contain the key.
    file("key", keyFile === undefined ? names.cert : names.key, keyFile ?? certFile);
  }
  return options;
}

function reader(what: string, path: string): () => Buffer {
  let last: Buffer;
  try {
    last = readFileSync(path);
  } catch (thrown) {
    const { code } = toError(thrown) as NodeJS.ErrnoException;
    throw new ConfigError([`${what} names a file that cannot be read (${code ?? "error"}): ${path}`]);
  }
  return () => {
    try {
      last = readFileSync(path);
    } catch {
      // The file is being renewed.
    }
    return last;
  };
}

/** Explains a TLS or certificate error to the user. Undefined for any other error. */
export function tlsProblem(error: Error, names: TlsSettingNames): string | undefined {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") return "it does not support TLS on this port";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID" || code === "HOSTNAME_MISMATCH") {
    return `its certificate is not trusted: it is for another host (${error.message}); set the expected name with ${names.serverName}, or disable this check with ${names.noHostCheck}`;
  }
  if (SERVER_NOT_TRUSTED.test(code)) {
    return `its certificate is not trusted (${error.message}); set its authority with ${names.ca}, or disable the check with ${names.noCheck}`;
  }
  if (CLIENT_CERTIFICATE_MISSING.test(code)) return `it requires a client certificate; set one with ${names.cert} and ${names.key}`;
  if (CLIENT_NOT_TRUSTED.test(code))
    return `it does not accept our client certificate (${code}); set another with ${names.cert} and ${names.key}`;
  if (KEY_UNUSABLE.test(code))
    return `our client certificate or its key is unusable (${code}); check ${names.ca}, ${names.cert} and ${names.key}`;
  return undefined;
}

/**
 * The possible cause of a connection reset. A server that gets no client certificate, or does not trust it, sends an alert and closes at once.
 * If it closes before reading what we sent, the alert is lost and only the reset arrives.
 */
export function resetHint(error: Error, tls: object | undefined, names: TlsSettingNames): string | undefined {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (tls === undefined || !["ECONNRESET", "EPIPE"].includes(code)) return undefined;
  const guess = "cert" in tls ? "does not accept our client certificate; set another with" : "requires a client certificate; set one with";
  return `${code}: perhaps it ${guess} ${names.cert} and ${names.key}`;
}

/** OpenSSL's verification errors as Node names them. */
const SERVER_NOT_TRUSTED = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/;
/** A server's alert to a client without a certificate, in TLS 1.3 and 1.2. */
const CLIENT_CERTIFICATE_MISSING = /^ERR_SSL_(TLSV13_ALERT_CERTIFICATE_REQUIRED|(SSLV3|TLSV1)_ALERT_HANDSHAKE_FAILURE)$/;
const CLIENT_NOT_TRUSTED =
  /^ERR_SSL_(SSLV3|TLSV1|TLSV13)_ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_(EXPIRED|REVOKED|UNKNOWN)|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)$/;
/** Errors for a file without a certificate or key, or for a mismatched pair. */
const KEY_UNUSABLE = /^ERR_(OSSL_(PEM|X509|EVP|UNSUPPORTED)|SSL_(PEM|KEY|EE_KEY)|CRYPTO_)/;

// TLS settings in the query of a URL, as in kombu and redis-py.

/** We verify by default, unlike kombu. */
export interface TlsSettings {
  /** False with `ssl_cert_reqs=CERT_NONE`: any server is trusted. */
  readonly verify: boolean;
  /** False with `ssl_check_hostname=false`: the certificate may name another host. */
  readonly checkHostname: boolean;
  /** The name to request (SNI) and to expect in the certificate. Default: the host in the URL. */
  readonly serverName?: string;
  /** Authorities to trust instead of the usual ones. */
  readonly caFile?: string;
  /** The client certificate, for a server that requires one. */
  readonly certFile?: string;
  /** The key of the client certificate. If absent, `certFile` contains the key. */
  readonly keyFile?: string;
}

/** `problem` is a message for the user. `settings` is undefined if the query does not request TLS. */
export type ParsedTlsSettings =
  | { readonly ok: true; readonly settings: TlsSettings | undefined }
  | { readonly ok: false; readonly problem: string };

/** Names of the settings in a URL, for messages. */
export interface TlsSettingNames {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly serverName: string;
  readonly noHostCheck: string;
  readonly noCheck: string;
}

/**
 * kombu passes `ssl_*` settings to py-amqp and redis-py (kombu/utils/url.py, `parse_url`). `ssl_server_hostname` is py-amqp's option
 * `server_hostname` with kombu's prefix (amqp/transport.py, `_wrap_socket_sni`).
 */
export const KOMBU_TLS_NAMES: TlsSettingNames = {
  ca: "ssl_ca_certs",
  cert: "ssl_certfile",
  key: "ssl_keyfile",
  serverName: "ssl_server_hostname",
  noHostCheck: "ssl_check_hostname=false",
  noCheck: "ssl_cert_reqs=CERT_NONE",
};

/** All query settings that are read. */
export const TLS_QUERY: readonly string[] = [
  "ssl",
  "ssl_cert_reqs",
  "ssl_check_hostname",
  KOMBU_TLS_NAMES.ca,
  KOMBU_TLS_NAMES.cert,
  KOMBU_TLS_NAMES.key,
  KOMBU_TLS_NAMES.serverName,
];

/** @param always whether the URL's scheme already requires encryption. */
export function parseTlsSettings(query: URLSearchParams, always: boolean): ParsedTlsSettings {
  const asked = [...query.keys()].some((key) => key.startsWith("ssl_")) || isTrue(query.get("ssl"));
  if (!always && !asked) return { ok: true, settings: undefined };
  const verify = toVerify(query.get("ssl_cert_reqs"));
  if (verify === undefined) return { ok: false, problem: "ssl_cert_reqs must be CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE" };
  const caFile = query.get(KOMBU_TLS_NAMES.ca);
  const certFile = query.get(KOMBU_TLS_NAMES.cert);
  const keyFile = query.get(KOMBU_TLS_NAMES.key);
  const serverName = query.get(KOMBU_TLS_NAMES.serverName);
  const checkHostname = query.get("ssl_check_hostname");
  const settings = {
    verify,
    checkHostname: checkHostname === null || isTrue(checkHostname),
    ...(serverName === null ? {} : { serverName }),
    ...(caFile === null ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
  return { ok: true, settings };
}

/** For a client, optional and required are the same (Python's ssl module). */
function toVerify(certReqs: string | null): boolean | undefined {
  switch (certReqs?.toLowerCase().replace(/^cert_/, "")) {
    case undefined:
    case "required":
    case "optional":
      return true;
    case "none":
      return false;
    default:
      return undefined;
  }
}

function isTrue(value: string | null): boolean {
  return value !== null && /^(true|1|yes|on)$/i.test(value);
}
