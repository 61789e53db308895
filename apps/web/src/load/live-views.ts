/** Live views: each distinct list is read once a second, whatever the number of its clients, and only changes are sent. */
import { refusal } from "@celery-metrics-exporter/access";
import { Repeat } from "@celery-metrics-exporter/runtime";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";

/** A row of a list. */
export interface LiveRow {
  readonly task_id: string;
  readonly status: string;
}

/** What a view shows. */
export interface LiveSource {
  /** Equal keys mean equal views. Contains everything that the rows depend on, including what the user may see. */
  readonly key: string;
  readonly everyMs: number;
  /** The newest rows. */
  readonly list: () => Promise<readonly LiveRow[]>;
  /** The rows with these ids. */
  readonly byId: (ids: readonly string[]) => Promise<readonly LiveRow[]>;
  /** A problem document for an error. */
  readonly toProblem: (error: Error) => object;
}

export interface LiveLimits {
  readonly clients: number;
  readonly views: number;
  readonly heartbeatMs: number;
  /** How long a view without clients is remembered, so that a client that reconnects gets only what it missed. */
  readonly forgetMs: number;
}

const LIMITS: LiveLimits = { clients: 200, views: 50, heartbeatMs: 15_000, forgetMs: 60_000 };

/** Rows that are no longer among the newest but not finished either. */
const MAX_WATCHED = 200;
const MAX_HISTORY = 60;
/** A client that takes so little is disconnected; it connects again by itself. */
const MAX_UNSENT_BYTES = 1_000_000;
const RECONNECT_MS = 2_000;
/** The epoch of a view, and the number of its event. */
const EVENT_ID = /^([0-9a-f]+)-(\d+)$/;
const FINAL = /^(SUCCESS|FAILURE|REVOKED|REJECTED)$/;

export class LiveViews {
  readonly #limits: LiveLimits;
  readonly #views = new Map<string, View>();

  constructor(limits: Partial<LiveLimits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
  }

  /**
   * The events of a view for one client, until it is destroyed: first all rows or, after `lastEventId`, what was missed.
   *
   * @throws {Error} with the status 503 if there are too many.
   */
  open(source: LiveSource, lastEventId: string | undefined): Readable {
    const clients = [...this.#views.values()].reduce((sum, view) => sum + view.clients, 0);
    if (clients >= this.#limits.clients) throw tooMany("clients of live views");
    let view = this.#views.get(source.key);
    if (view === undefined) {
      if (this.#views.size >= this.#limits.views) throw tooMany("different live views");
      view = new View(source, this.#limits, () => this.#views.delete(source.key));
      this.#views.set(source.key, view);
    }
    return view.open(lastEventId);
  }

  /** Ends every client's events. */
  async stop(): Promise<void> {
    await Promise.all([...this.#views.values()].map((view) => view.stop()));
    this.#views.clear();
  }
}

function tooMany(what: string): Error {
  return Object.assign(refusal(503, `Too many ${what}. Try again later.`), { retryAfterSeconds: 10 });
}

interface Sent {
  readonly number: number;
  readonly text: string;
}

class View {
  readonly #source: LiveSource;
  readonly #limits: LiveLimits;
  readonly #onForgotten: () => void;
  /** Distinguishes this view from one before a restart. */
  readonly #epoch = randomBytes(6).toString("hex");
  readonly #clients = new Set<Readable>();
  readonly #history: Sent[] = [];
  #number = 0;
  /** The newest rows, as JSON by id; undefined before the first reading. */
  #page: ReadonlyMap<string, string> | undefined;
  /** Unfinished rows that have left the page, oldest first. */
  #watched = new Map<string, string>();
  #reading: Repeat | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #forgetting: NodeJS.Timeout | undefined;
  #hasFailed = false;

  constructor(source: LiveSource, limits: LiveLimits, onForgotten: () => void) {
    this.#source = source;
    this.#limits = limits;
    this.#onForgotten = onForgotten;
  }

  get clients(): number {
    return this.#clients.size;
  }

  open(lastEventId: string | undefined): Readable {
    const client = new Readable({ read: () => {} });
    client.push(`retry: ${RECONNECT_MS}\n\n`);
    for (const text of this.#missedSince(lastEventId)) client.push(text);
    this.#clients.add(client);
    client.once("close", () => this.#leave(client));
    client.on("error", () => {});
    this.#begin();
    return client;
  }

  async stop(): Promise<void> {
    const reading = this.#reading;
    for (const client of this.#clients) client.destroy();
    this.#clients.clear();
    this.#end();
    clearTimeout(this.#forgetting);
    await reading?.stop();
  }

  #begin(): void {
    clearTimeout(this.#forgetting);
    if (this.#reading !== undefined) return;
    this.#reading = new Repeat(() => this.#read(), {
      everyMs: this.#source.everyMs,
      first: "now",
      onError: (error) => this.#failed(error),
    });
    this.#heartbeat = setInterval(() => this.#push(": heartbeat\n\n"), this.#limits.heartbeatMs).unref();
  }

  #leave(client: Readable): void {
    if (!this.#clients.delete(client) || this.#clients.size > 0) return;
    this.#end();
    this.#forgetting = setTimeout(this.#onForgotten, this.#limits.forgetMs).unref();
  }

  #end(): void {
    clearInterval(this.#heartbeat);
    void this.#reading?.stop();
    this.#reading = undefined;
  }

  async #read(): Promise<void> {
    const rows = await this.#source.list();
    const page = new Map(rows.map((row) => [row.task_id, JSON.stringify(row)]));
    const left = [...(this.#page ?? [])].filter(([id, json]) => !page.has(id) && !isFinal(json));
    const watched = new Map([...this.#watched, ...left].filter(([id]) => !page.has(id)).slice(-MAX_WATCHED));
    const others = watched.size === 0 ? [] : await this.#source.byId([...watched.keys()]);
    const changed = [...rows, ...others].filter(
      (row) => (this.#page?.get(row.task_id) ?? watched.get(row.task_id)) !== JSON.stringify(row),
    );
    this.#watched = new Map(others.map((row) => [row.task_id, JSON.stringify(row)] as const).filter(([, json]) => !isFinal(json)));
    const isFirst = this.#page === undefined;
    this.#page = page;
    this.#hasFailed = false;
    if (isFirst) this.#push(this.#snapshot());
    else if (changed.length > 0) this.#send(changed);
  }

  #send(items: readonly LiveRow[]): void {
    const text = this.#message(++this.#number, { reset: false, items });
    this.#history.push({ number: this.#number, text });
    if (this.#history.length > MAX_HISTORY) this.#history.shift();
    this.#push(text);
  }

  /** Once for each outage. */
  #failed(error: Error): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#push(`event: problem\ndata: ${JSON.stringify(this.#source.toProblem(error))}\n\n`);
  }

  #missedSince(lastEventId: string | undefined): string[] {
    if (this.#page === undefined) return [];
    const [, epoch, number] = EVENT_ID.exec(lastEventId ?? "") ?? [];
    const seen = epoch === this.#epoch ? Number(number) : Number.NaN;
    const missed = this.#history.filter((sent) => sent.number > seen);
    return seen <= this.#number && missed.length === this.#number - seen ? missed.map(({ text }) => text) : [this.#snapshot()];
  }

  #snapshot(): string {
    return this.#message(this.#number, {
      reset: true,
      items: [...(this.#page?.values() ?? [])].map((json) => JSON.parse(json) as unknown),
    });
  }

  #message(number: number, data: object): string {
    return `event: tasks\nid: ${this.#epoch}-${number}\ndata: ${JSON.stringify(data)}\n\n`;
  }

  #push(text: string): void {
    for (const client of this.#clients) {
      if (client.readableLength > MAX_UNSENT_BYTES) client.destroy();
      else client.push(text);
    }
  }
}

function isFinal(json: string): boolean {
  return FINAL.test((JSON.parse(json) as LiveRow).status);
}
