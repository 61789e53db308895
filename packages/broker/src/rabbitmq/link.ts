/** A connection to RabbitMQ without a consumer. */
import type { LinkSession } from "../link/broker-link.ts";
import type { RabbitmqServer } from "../url/broker-url.ts";
import { closeRabbitmq, connectRabbitmq } from "./connection.ts";

export async function openRabbitmqLink(server: RabbitmqServer, use: string, signal: AbortSignal): Promise<LinkSession> {
  const model = await connectRabbitmq(server, { use });
  const ended = new Promise<Error>((resolve) => {
    model.on("error", resolve);
    model.on("close", (error?: Error) => resolve(error ?? new Error("connection closed")));
  });
  const close = (): Promise<void> => closeRabbitmq(model);
  if (signal.aborted) {
    await close();
    throw new Error("no answer in time");
  }
  return { connection: { broker: "rabbitmq", model }, ended, close };
}
