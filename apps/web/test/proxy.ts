/** A reverse proxy that serves a site below a prefix, which it keeps or strips. */
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";

export interface Proxy {
  /** Without a trailing slash. */
  readonly url: string;
  stop(): Promise<void>;
}

export interface ProxyOptions {
  readonly prefix: string;
  readonly strips: boolean;
  /** A free one without it. */
  readonly port?: number;
}

export async function startProxy(site: string, { prefix, strips, port: ownPort = 0 }: ProxyOptions): Promise<Proxy> {
  const { hostname, port } = new URL(site);
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url ?? "/";
    if (!path.startsWith(`${prefix}/`)) {
      outgoing.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const forwarded = request({ hostname, port, method, headers, path: strips ? path.slice(prefix.length) : path }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.on("error", () => outgoing.destroy());
    outgoing.on("close", () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(ownPort, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
