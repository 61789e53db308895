/**
 * A minimal connection pooler. Like PgBouncer 1.18 in transaction mode, it accepts only some parameters of a session, and keeps the session when its
 * client disconnects. The behavior that the tests expect was verified with PgBouncer itself.
 */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

const TAKEN = new Set(["user", "database", "application_name", "client_encoding"]);
const SSL_REQUEST = 80_877_103;
const TERMINATE = Buffer.from("X\0\0\0\u0004", "latin1");

export interface Pooler {
  /** The server's URL through the pooler. */
  readonly url: string;
  /** Queries each session that has lost its client. */
  ask(statement: string): Promise<string[]>;
  stop(): void;
}

export async function startPooler(serverUrl: string): Promise<Pooler> {
  const { hostname, port } = new URL(serverUrl);
  const kept = new Set<Socket>();
  const open = (client: Socket): Socket => {
    const session = connect(Number(port), hostname);
    kept.add(session);
    session.on("error", () => {}).on("close", () => kept.delete(session) && client.destroy());
    return session.on("data", (data) => client.writable && client.write(data));
  };
  const server = createServer((client) => {
    let session: Socket | undefined;
    client.on("error", () => {});
    client.on("data", (data) => {
      if (session !== undefined) {
        session.write(data.subarray(-TERMINATE.length).equals(TERMINATE) ? data.subarray(0, -TERMINATE.length) : data);
      } else if (data.readInt32BE(4) === SSL_REQUEST) {
        client.write("N");
      } else {
        const refused = parametersOf(data).find((name) => !TAKEN.has(name));
        if (refused === undefined) (session = open(client)).write(data);
        else
          client
            .removeAllListeners("data")
            .resume()
            .end(refusal(`unsupported startup parameter: ${refused}`));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(serverUrl);
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    ask: (statement) => Promise.all([...kept].map((session) => ask(session, statement))),
    stop: () => {
      server.close();
      for (const session of kept) session.destroy();
    },
  };
}

/** The names in a StartupMessage. */
function parametersOf(message: Buffer): string[] {
  return message
    .toString("utf8", 8)
    .split("\0")
    .filter((text, index) => index % 2 === 0 && text !== "");
}

function refusal(message: string): Buffer {
  return frame("E", Buffer.from(`SFATAL\0C08P01\0M${message}\0\0`));
}

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** The first column of the first row. */
async function ask(session: Socket, statement: string): Promise<string> {
  session.write(frame("Q", Buffer.from(`${statement}\0`)));
  for (let answer = Buffer.alloc(0); ;) {
    const [data] = (await once(session, "data")) as [Buffer];
    answer = Buffer.concat([answer, data]);
    const row = answer.indexOf("D\0");
    // A row, and the ReadyForQuery at the end of the answer.
    if (row !== -1 && answer.at(-6) === 0x5a) return answer.toString("utf8", row + 11, row + 11 + answer.readInt32BE(row + 7));
  }
}
