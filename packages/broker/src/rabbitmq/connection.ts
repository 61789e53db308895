/** Opens a connection to RabbitMQ and explains failures. */
import { CodedError, KOMBU_TLS_NAMES, tlsProblem, toError, toTlsOptions } from "@celery-metrics-exporter/runtime";
import { connect, credentials, type ChannelModel } from "amqplib";
import { connect as connectSocket } from "node:net";
import type { Duplex } from "node:stream";
import type { RabbitmqServer } from "../url/broker-url.ts";
import { OtherServerError, DeniedError } from "../source/source.ts";

const CONNECT_TIMEOUT_MS = 5_000;
/** Time limit for a listening server to accept a connection. */
const ACCEPT_TIMEOUT_MS = 1_000;
/** Time limit for the broker to answer a close. */
const CLOSE_TIMEOUT_MS = 2_000;
/**
 * Heartbeat interval. A connection that is silent for two intervals is dead, so half-open ones are detected after 10 to 15 s. Both ends send a
 * heartbeat every half interval, so that an event loop or a broker that is busy for some seconds does not count as dead.
 */
const HEARTBEAT_SECONDS = 5;

export interface RabbitmqConnectionOptions {
  /** Part of the connection's name in RabbitMQ. Default: `receiver`. */
  readonly use?: string;
  readonly heartbeatSeconds?: number;
}

/**
 * @throws {DeniedError} if the broker refuses the user, password or virtual host, its certificate is not trusted, or it is not RabbitMQ.
 * @throws {ConfigError} if a certificate file cannot be read.
 */
export async function connectRabbitmq(server: RabbitmqServer, options: RabbitmqConnectionOptions = {}): Promise<ChannelModel> {
  const { host, port, vhost, tls } = server;
  const { use = "receiver", heartbeatSeconds = HEARTBEAT_SECONDS } = options;
  try {
    return await connect(
      {
        protocol: tls === undefined ? "amqp" : "amqps",
        hostname: host,
        port,
        // amqplib decodes it.
        vhost: encodeURIComponent(vhost),
        heartbeat: heartbeatSeconds,
      },
      {
        timeout: CONNECT_TIMEOUT_MS,
        noDelay: true,
        keepAlive: true,
        credentials: credentialsOf(server),
        clientProperties: { connection_name: `celery-metrics-exporter:${use}` },
        ...(tls === undefined ? {} : toTlsOptions(tls, { variable: "CELERY_BROKER_URL", names: KOMBU_TLS_NAMES, host })),
      },
    );
  } catch (thrown) {
    throw await explain(toError(thrown), server);
  }
}

/** User and password have kombu's defaults (kombu/transport/pyamqp.py). */
function credentialsOf({ username = "guest", password = "guest", login }: RabbitmqServer): ReturnType<typeof credentials.external> {
  if (login === "EXTERNAL") return credentials.external();
  return login === "AMQPLAIN" ? credentials.amqplain(username, password) : credentials.plain(username, password);
}

/** Closes in bounded time, whether or not the broker answers. Never throws. */
export async function closeRabbitmq(connection: ChannelModel): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const silent = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      // amqplib and all pending calls wait for the answer forever. There is no public way to end that.
      (connection.connection as { stream?: Duplex }).stream?.destroy(new Error("no answer to close"));
      resolve();
    }, CLOSE_TIMEOUT_MS);
  });
  await Promise.race([connection.close().catch(() => {}), silent]);
  clearTimeout(timer);
}

async function explain(error: Error, server: RabbitmqServer): Promise<Error> {
  const { vhost, tls, login = "PLAIN" } = server;
  if (error instanceof CodedError) return error;
  const problem = tlsProblem(error, KOMBU_TLS_NAMES);
  if (problem !== undefined) return new DeniedError(problem, { cause: error });
  if (/ACCESS[-_]REFUSED/.test(error.message)) return new DeniedError(refusedLogin(login), { cause: error });
  if (/SASL mechanism \S+ is not provided/.test(error.message)) {
    return new DeniedError(
      `it does not offer the login method ${login}; set another with ?login_method= (PLAIN, AMQPLAIN, or EXTERNAL with a certificate)`,
      { cause: error },
    );
  }
  // The answer to `connection.open`, which names the virtual host. amqplib hides the broker's reason.
  if (error.message.startsWith("Expected ConnectionOpenOk; got <ConnectionClose")) {
    return new DeniedError(
      `virtual host ${JSON.stringify(vhost)} does not exist, the user may not use it, or a connection limit is reached`,
      { cause: error },
    );
  }
  // amqplib reads the first bytes of any other protocol as the size of a frame.
  if (/Frame size \d+ exceeds/.test(error.message)) return new OtherServerError("RabbitMQ", { cause: error });
  if (error.message === "connect ETIMEDOUT" && (await accepts(server))) {
    return new Error("it accepts connections but does not answer: perhaps a server other than RabbitMQ listens there", { cause: error });
  }
  if (tls === undefined && /Socket closed abruptly during opening handshake|ECONNRESET|EPIPE/.test(error.message)) {
    return new Error("it closed the connection at once: perhaps it requires TLS on this port (use amqps://), or is not RabbitMQ", {
      cause: error,
    });
  }
  return error;
}

/** Whether a server accepts connections. A Redis would accept, read our bytes as a command and wait for its end. */
async function accepts({ host, port }: RabbitmqServer): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket({ host, port, timeout: ACCEPT_TIMEOUT_MS });
    const end = (accepted: boolean) => (): void => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once("connect", end(true)).once("timeout", end(false)).once("error", end(false));
  });
}

function refusedLogin(login: string): string {
  return login === "EXTERNAL" ? "there is no user with the name in our client certificate" : "wrong user or password";
}
