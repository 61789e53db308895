/** How a connection is to be encrypted, and the query settings of a URL that say so: those of kombu and redis-py. */

/** Unlike kombu, who trusts anyone unless told otherwise, we verify by default. */
export interface TlsSettings {
  /** False with `ssl_cert_reqs=CERT_NONE`: whoever answers is trusted. */
  readonly verify: boolean;
  /** False with `ssl_check_hostname=false`: the certificate may name another host. */
  readonly checkHostname: boolean;
  /** The name to ask for (SNI) and to find in the certificate; that of the URL if absent. */
  readonly serverName?: string;
  /** Authorities to trust instead of the usual ones. */
  readonly caFile?: string;
  /** Our own certificate, for a server that asks for one. */
  readonly certFile?: string;
  /** Its key; if absent, the key is in `certFile`. */
  readonly keyFile?: string;
}

/** `problem` is for the user to read. Undefined settings: the query asks for none. */
export type ParsedTlsSettings =
  | { readonly ok: true; readonly settings: TlsSettings | undefined }
  | { readonly ok: false; readonly problem: string };

/** What the settings are called in a URL, for messages. */
export interface TlsSettingNames {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly serverName: string;
  readonly noHostCheck: string;
  readonly noCheck: string;
}

/**
 * kombu hands `ssl_*` settings to py-amqp and redis-py (kombu/utils/url.py, `parse_url`). `ssl_server_hostname` is py-amqp's option
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

/** All that is read from the query of a URL. */
export const TLS_QUERY: readonly string[] = [
  "ssl",
  "ssl_cert_reqs",
  "ssl_check_hostname",
  KOMBU_TLS_NAMES.ca,
  KOMBU_TLS_NAMES.cert,
  KOMBU_TLS_NAMES.key,
  KOMBU_TLS_NAMES.serverName,
];

/** @param always whether the connection is encrypted in any case, as the URL's scheme says. */
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

/** A client has no use for the difference between optional and required (Python's ssl module). */
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
