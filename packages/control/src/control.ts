/** Asks Celery's workers by remote control, and collects their replies. */
import { type BrokerConnection, DeniedError } from "@celery-metrics-exporter/broker";
import { abortable, toError } from "@celery-metrics-exporter/runtime";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Body,
  type RawReply,
  type ReplyTo,
  type Serializer,
  type Unreadable,
  decodeReply,
  encodeRequest,
  errorOf,
} from "./message.ts";
import { RabbitmqTransport } from "./rabbitmq.ts";
import { RedisTransport } from "./redis.ts";

export interface ControlOptions {
  /** Celery's `control_exchange`, by default `celery`. */
  readonly controlExchange: string;
  /** Of the requests. The workers must accept it (`accept_content`). They choose that of their replies. */
  readonly serializer: Serializer;
  /** Redis: distinguishes deployments that ask the same workers. The same in all processes of a deployment. */
  readonly deployment: string;
  /** Redis: the workers' transport options `global_keyprefix` and `fanout_prefix`. */
  readonly keyPrefix: string;
  readonly fanoutPrefix: boolean | string;
  /** Redis: how long late replies are kept. Seconds, by default an hour. */
  readonly replyTtlSeconds?: number;
  /** RabbitMQ: the beginning of the reply queue's name, for permissions. */
  readonly replyQueuePrefix: string;
}

/** How questions reach the workers, and replies reach us, over one connection. */
export interface Transport {
  readonly replyTo: ReplyTo;
  /** Whether it can be used for another question. */
  readonly isOpen: boolean;
  /** Sends to all workers. Returns how many got it, if the broker tells. */
  publish(body: Body): Promise<number | undefined>;
  /** Takes the replies that have arrived. */
  take(): Promise<RawReply[]>;
}

export interface AskOptions {
  /** Names of the nodes that are to answer. Absent: all. */
  readonly destination?: readonly string[];
  /** How long to wait for replies. Milliseconds. */
  readonly timeoutMs: number;
  /** RabbitMQ: after this many replies it waits no longer. Redis tells the number itself. */
  readonly expected?: number;
  /** Its abort ends the wait with an error. */
  readonly signal?: AbortSignal;
}

export interface Answers {
  /** By node. Two values are from two nodes of the same name, which Celery forbids but does not prevent. */
  readonly replies: ReadonlyMap<string, readonly unknown[]>;
  /** Nodes that answered with an error, and its text. */
  readonly errors: ReadonlyMap<string, readonly string[]>;
  readonly unreadable: readonly Unreadable[];
  /** Node names that answered more than once. */
  readonly duplicates: readonly string[];
  /** How many workers got the question. Undefined on RabbitMQ, which does not tell. */
  readonly asked: number | undefined;
}

/** Workers answer within milliseconds. */
const POLL_MS = 10;
/** Limit on everything besides the wait for replies: a blocked broker may never answer. */
const BROKER_TIMEOUT_MS = 5_000;

/** Can be used by several callers at once. Needs no closing: everything belongs to the connection, or expires. */
export class Control {
  readonly #link: { readonly connection: BrokerConnection };
  readonly #options: ControlOptions;
  readonly #pending = new Map<string, Collector>();
  #opened: { readonly connection: BrokerConnection; readonly transport: Promise<Transport> } | undefined;
  #strays = 0;

  /** @param link its connection is read for each question, so that a new one is noticed. */
  constructor(link: { readonly connection: BrokerConnection }, options: ControlOptions) {
    this.#link = link;
    this.#options = options;
  }

  /** Replies to no open question, since the start: late ones, or of another process. They are dropped. */
  get strays(): number {
    return this.#strays;
  }

  /**
   * Sends a command to the workers and collects their replies until all that are expected have arrived, or the time is over. A worker that does not
   * answer is no error: it may be busy, or its remote control may be off.
   *
   * @throws {DeniedError} if the broker refuses; the message names the missing permission.
   * @throws {UnavailableError} while the broker is away, from `link`.
   * @throws {Error} if the connection is lost or the broker does not answer.
   */
  async ask(method: string, args: Readonly<Record<string, unknown>>, options: AskOptions): Promise<Answers> {
    const { destination, timeoutMs, expected, signal } = options;
    const collector = new Collector();
    // Celery takes an empty list for everybody.
    if (destination?.length === 0) return collector.answers(0);
    const ticket = randomUUID();
    const signals = [AbortSignal.timeout(timeoutMs + BROKER_TIMEOUT_MS), ...(signal === undefined ? [] : [signal])];
    const limit = AbortSignal.any(signals);
    this.#pending.set(ticket, collector);
    try {
      const transport = await abortable(this.#transport(), limit);
      const request = { method, arguments: args, destination, ticket, replyTo: transport.replyTo };
      const asked = await abortable(transport.publish(encodeRequest(request, this.#options.serializer)), limit);
      const wanted = asked === undefined ? expected : Math.min(asked, destination?.length ?? asked);
      const deadline = performance.now() + timeoutMs;
      while (collector.count < (wanted ?? Number.POSITIVE_INFINITY)) {
        for (const reply of await abortable(transport.take(), limit)) this.#arrived(reply);
        if (performance.now() >= deadline) break;
        await sleep(POLL_MS);
      }
      return collector.answers(asked);
    } catch (thrown) {
      throw denied(toError(thrown));
    } finally {
      this.#pending.delete(ticket);
    }
  }

  #arrived(raw: RawReply): void {
    const reply = decodeReply(raw);
    const collector = this.#pending.get(reply.ticket ?? "");
    if (collector === undefined) this.#strays += 1;
    else collector.add(reply.nodes, reply.unreadable);
  }

  async #transport(): Promise<Transport> {
    const { connection } = this.#link;
    const opened = this.#opened;
    if (opened?.connection === connection) {
      const transport = await opened.transport;
      if (transport.isOpen) return transport;
    }
    if (this.#opened === opened) this.#opened = { connection, transport: this.#open(connection) };
    try {
      return await (this.#opened?.transport ?? this.#open(connection));
    } catch (thrown) {
      this.#opened = undefined;
      throw thrown;
    }
  }

  async #open(connection: BrokerConnection): Promise<Transport> {
    if (connection.broker === "rabbitmq") return RabbitmqTransport.open(connection.model, this.#options);
    return new RedisTransport(connection.redis, connection.server, this.#options);
  }
}

/** The replies to one question. */
class Collector {
  readonly #replies = new Map<string, unknown[]>();
  readonly #errors = new Map<string, string[]>();
  readonly #unreadable: Unreadable[] = [];
  readonly #perNode = new Map<string, number>();
  count = 0;

  add(nodes: ReadonlyMap<string, unknown>, unreadable: Unreadable | undefined): void {
    this.count += 1;
    if (unreadable !== undefined) this.#unreadable.push(unreadable);
    for (const [node, value] of nodes) {
      this.#perNode.set(node, (this.#perNode.get(node) ?? 0) + 1);
      const error = errorOf(value);
      if (error === undefined) append(this.#replies, node, value);
      else append(this.#errors, node, error);
    }
  }

  answers(asked: number | undefined): Answers {
    const duplicates = [...this.#perNode].filter(([, count]) => count > 1).map(([node]) => node);
    return { replies: this.#replies, errors: this.#errors, unreadable: this.#unreadable, duplicates, asked };
  }
}

function append<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

function denied(error: Error): Error {
  // In a transaction it is the end of another message.
  const refusal = /\bNOPERM\b.*/s.exec(error.message)?.[0];
  return refusal === undefined ? error : new DeniedError(refusal, { cause: error });
}
