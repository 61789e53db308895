/** All routes of the installed bull-board, as the dashboard registers them, so that routes added by an upgrade are tested too. */
import Fastify from "fastify";
import { registerBoard } from "../src/board.ts";

export interface BoardRoute {
  readonly method: string;
  readonly path: string;
}

/** Replaces the path's parameters by these values; a parameter without a value fails the test. */
export async function boardRoutes(parameters: Readonly<Record<string, string>>): Promise<BoardRoute[]> {
  const server = Fastify();
  const routes: BoardRoute[] = [];
  server.addHook("onRoute", ({ method, url }) => {
    for (const one of [method].flat()) {
      if (one === "HEAD" || url.includes("*")) continue;
      routes.push({ method: one, path: url.replace(/:(\w+)/g, (_, name: string) => parameters[name] ?? unknownParameter(url)) });
    }
  });
  await registerBoard(server, { queues: [], readOnly: false, showTaskData: true });
  await server.ready();
  await server.close();
  return routes;
}

function unknownParameter(url: string): never {
  throw new Error(`a parameter of ${url} is new: say in the test what to put there`);
}

/** The whole content of Redis, to check that nothing changed. */
export async function contentOf(redis: {
  keys(pattern: string): Promise<string[]>;
  dumpBuffer(key: string): Promise<Buffer | null>;
}): Promise<Record<string, string | undefined>> {
  const keys = (await redis.keys("*")).sort();
  const values = await Promise.all(keys.map(async (key) => [key, (await redis.dumpBuffer(key))?.toString("hex")] as const));
  return Object.fromEntries(values);
}
