/** Ports of this machine that nobody listens on. */
import { createServer } from "node:net";

/** `preferred` if nobody listens there, else any. */
export async function freePort(preferred: number, host = "127.0.0.1"): Promise<number> {
  return (await isFree(preferred, host)) ?? (await isFree(0, host)) ?? preferred;
}

function isFree(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === "object" ? address.port : undefined));
    });
  });
}
