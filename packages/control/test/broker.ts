/** A broker of each kind with nothing on it, and control over it. */
import { BrokerLink, parseBrokerUrl } from "@celery-metrics-exporter/broker";
import { Health } from "@celery-metrics-exporter/runtime";
import { createVhost, startRedis } from "@celery-metrics-exporter/testkit";
import { pino } from "pino";
import { Control, type ControlOptions } from "../src/index.ts";

export interface TestBroker {
  readonly url: string;
  stop(): Promise<unknown>;
}

export const BROKERS = {
  Redis: async (): Promise<TestBroker> => {
    const server = await startRedis();
    return { url: server.url, stop: () => server.stop() };
  },
  RabbitMQ: async (): Promise<TestBroker> => {
    const vhost = await createVhost();
    return { url: vhost.url, stop: () => vhost.drop() };
  },
} as const;

const OPTIONS: ControlOptions = {
  controlExchange: "celery",
  serializer: "json",
  deployment: "test",
  keyPrefix: "",
  fanoutPrefix: true,
  replyQueuePrefix: "cme-monitor",
};

async function openLink(url: string): Promise<BrokerLink> {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new Error(parsed.problem);
  const link = new BrokerLink(parsed.url, {
    use: "test",
    logger: pino({ level: "silent" }),
    health: new Health(),
    component: "broker",
    startupTimeoutMs: 10_000,
  });
  await link.start();
  return link;
}

/** Control on a connection of its own, and what closes it. */
export async function openControl(url: string, options: Partial<ControlOptions> = {}): Promise<{ control: Control; link: BrokerLink }> {
  const link = await openLink(url);
  return { control: new Control(link, { ...OPTIONS, ...options }), link };
}
