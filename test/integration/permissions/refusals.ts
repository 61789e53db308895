/** Reads which commands Redis has refused its users. */
import type { Redis } from "ioredis";

/** The refusals since the last call, except those of commands that a role tries and can do without. */
export async function refusals(redis: Redis): Promise<string[]> {
  const entries = (await redis.call("ACL", "LOG", "128")) as (readonly [string, string][] | Record<string, unknown>)[];
  await redis.call("ACL", "LOG", "RESET");
  return entries
    .map((entry) => (Array.isArray(entry) ? pairs(entry as unknown as string[]) : (entry as Record<string, unknown>)))
    .map(({ username, object, context }) => `${String(username)}: ${String(object)} (${String(context)})`)
    .filter((text) => !/: (info|config\|get|client\|setname|client\|setinfo) /i.test(text));
}

function pairs(list: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(list.flatMap((key, index) => (index % 2 === 0 ? [[key, list[index + 1]]] : [])));
}
