/** Opens a connection to RabbitMQ, and tells what a failure means. */
import { CodedError, KOMBU_TLS_NAMES, tlsProblem, toError, toTlsOptions } from "@celery-metrics-exporter/runtime";
import { connect, type ChannelModel } from "amqplib";
import type { Duplex } from "node:stream";
import type { RabbitmqServer } from "./broker-url.ts";
import { RefusedError } from "./refused-error.ts";

const CONNECT_TIMEOUT_MS = 5_000;
/** A broker that does not answer a close has this long. */
const CLOSE_TIMEOUT_MS = 2_000;
/**
 * A connection on which nothing came for two intervals is dead: half-open ones are noticed after 10 to 15 s. Both ends send a heartbeat each
 * half interval, so that an event loop or a broker that is busy for some seconds is not taken for a dead one.
 */
const HEARTBEAT_SECONDS = 5;

export interface RabbitmqConnectionOptions {
  /** Shown by RabbitMQ in the connection's name. Default `receiver`. */
  readonly use?: string;
  readonly heartbeatSeconds?: number;
}

/**
 * @throws {RefusedError} when the broker refuses user, password or virtual host, or its certificate is not trusted.
 * @throws {ConfigError} when a certificate file cannot be read.
 */
export async function connectRabbitmq(server: RabbitmqServer, options: RabbitmqConnectionOptions = {}): Promise<ChannelModel> {
  const { host, port, username, password, vhost, tls } = server;
  const { use = "receiver", heartbeatSeconds = HEARTBEAT_SECONDS } = options;
  try {
    return await connect(
      {
        protocol: tls === undefined ? "amqp" : "amqps",
        hostname: host,
        port,
        // kombu's defaults (kombu/transport/pyamqp.py).
        username: username ?? "guest",
        password: password ?? "guest",
        // amqplib decodes it.
        vhost: encodeURIComponent(vhost),
        heartbeat: heartbeatSeconds,
      },
      {
        timeout: CONNECT_TIMEOUT_MS,
        noDelay: true,
        keepAlive: true,
        clientProperties: { connection_name: `celery-metrics-exporter:${use}` },
        ...(tls === undefined ? {} : toTlsOptions(tls, { variable: "CELERY_BROKER_URL", names: KOMBU_TLS_NAMES, host })),
      },
    );
  } catch (thrown) {
    throw explain(toError(thrown), server);
  }
}

/** Closes in bounded time, whether the broker answers or not, and never throws. */
export async function closeRabbitmq(connection: ChannelModel): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const silent = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      // amqplib waits for the answer for ever, and so does every call that is under way; it has no public way to end that.
      (connection.connection as { stream?: Duplex }).stream?.destroy(new Error("no answer to close"));
      resolve();
    }, CLOSE_TIMEOUT_MS);
  });
  await Promise.race([connection.close().catch(() => {}), silent]);
  clearTimeout(timer);
}

function explain(error: Error, { vhost }: RabbitmqServer): Error {
  if (error instanceof CodedError) return error;
  const tls = tlsProblem(error, KOMBU_TLS_NAMES);
  if (tls !== undefined) return new RefusedError(tls, { cause: error });
  if (/ACCESS[-_]REFUSED/.test(error.message)) return new RefusedError("wrong user or password", { cause: error });
  // The answer to `connection.open`, which asks for the virtual host; amqplib keeps the broker's reason to itself.
  if (error.message.startsWith("Expected ConnectionOpenOk; got <ConnectionClose")) {
    return new RefusedError(
      `virtual host ${JSON.stringify(vhost)} does not exist, the user may not use it, or a connection limit is reached`,
      { cause: error },
    );
  }
  return error;
}
