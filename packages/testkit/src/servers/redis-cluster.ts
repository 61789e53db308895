/** Private Redis Clusters. */
import { execFileSync } from "node:child_process";
import { Redis } from "ioredis";
import { certificate } from "../services/certificates.mjs";
import { freePort } from "../services/ports.mjs";
import { findRedis, startRedis, type RedisServer } from "../services/redis.mjs";

const SLOTS = 16_384;
const FORMED_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

export interface RedisClusterOptions {
  /** Default 3. */
  readonly masters?: number;
  /** Number of masters with a replica, starting with the first. Default 0. */
  readonly replicas?: number;
  /** More options for each `redis-server`. */
  readonly args?: readonly string[];
  /** Required of clients, and between the nodes. */
  readonly password?: string;
  /** Whether the nodes use TLS, between each other and with clients, which need a certificate. Needs Redis 7. */
  readonly tls?: boolean;
  /** Silence after which the other nodes consider a node dead. Default 1 s. */
  readonly nodeTimeoutMs?: number;
}

/** A private Redis Cluster on loopback. */
export class RedisCluster {
  /** Each has an equal share of the slots. */
  readonly masters: readonly RedisServer[];
  /** One replica for each of the first masters. */
  readonly replicas: readonly RedisServer[];
  readonly #password: string | undefined;

  constructor(masters: readonly RedisServer[], replicas: readonly RedisServer[], password: string | undefined) {
    this.masters = masters;
    this.replicas = replicas;
    this.#password = password;
  }

  get nodes(): readonly RedisServer[] {
    return [...this.masters, ...this.replicas];
  }

  /** As our settings name it, without TLS. */
  get url(): string {
    const password = this.#password === undefined ? "" : `:${this.#password}@`;
    return `redis+cluster://${password}${this.masters.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  /** Another connection to a single node, as an administrator. */
  admin(node: RedisServer): Redis {
    const admin = new Redis(node.url, this.#password === undefined ? {} : { password: this.#password });
    admin.on("error", () => {});
    return admin;
  }

  /** Moves a slot and its keys to another master, as `redis-cli --cluster reshard` does. */
  async moveSlot(slot: number, target: RedisServer): Promise<void> {
    const source = await this.#ownerOf(slot);
    const [from, to] = [this.admin(source), this.admin(target)];
    const [fromId, toId] = await Promise.all([myId(from), myId(to)]);
    await to.cluster("SETSLOT", slot, "IMPORTING", fromId);
    await from.cluster("SETSLOT", slot, "MIGRATING", toId);
    const auth = this.#password === undefined ? [] : ["AUTH", this.#password];
    for (;;) {
      const keys = await from.cluster("GETKEYSINSLOT", slot, 100);
      if (keys.length === 0) break;
      await from.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, ...auth, "KEYS", ...keys);
    }
    for (const node of [to, from]) await node.cluster("SETSLOT", slot, "NODE", toId);
    for (const admin of [from, to]) admin.disconnect();
  }

  /** Shuts down every node and removes its data. */
  async stop(): Promise<void> {
    // All at once, so that no node waits for another to come back.
    await Promise.all(this.nodes.map((node) => node.kill()));
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  async #ownerOf(slot: number): Promise<RedisServer> {
    const [first] = this.masters;
    if (first === undefined) throw new Error("the cluster has no nodes");
    const admin = this.admin(first);
    const ranges = await admin.cluster("SLOTS");
    admin.disconnect();
    const port = ranges.find(([from, to]) => from <= slot && slot <= to)?.[2]?.[1];
    const owner = this.nodes.find((node) => node.port === port);
    if (owner === undefined) throw new Error(`no node has slot ${slot}`);
    return owner;
  }
}

/** Starts an empty cluster. Resolves when every node has joined and all slots are served. */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<RedisCluster> {
  const { masters = 3, replicas = 0, password } = options;
  const ports = await freeBusPorts(masters + replicas);
  const nodes = await Promise.all(ports.map((busPort) => startNode(options, busPort)));
  const cluster = new RedisCluster(nodes.slice(0, masters), nodes.slice(masters), password);
  try {
    await form(cluster, ports, options.tls === true);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

/** Redis 6 has no option for the port between nodes: it is 10,000 above the clients' port. */
async function freeBusPorts(count: number): Promise<(number | undefined)[]> {
  const version = execFileSync(findRedis() ?? "redis-server", ["--version"], { encoding: "utf8" });
  const canChoose = Number(/v=(\d+)/.exec(version)?.[1]) >= 7;
  return Promise.all(Array.from({ length: count }, async () => (canChoose ? freePort() : undefined)));
}

function startNode({ args = [], password, tls = false, nodeTimeoutMs = 1_000 }: RedisClusterOptions, busPort: number | undefined) {
  // The cluster lists a replica once it has copied something, even a ping.
  const atOnce = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
  const clusterArgs = ["--cluster-enabled", "yes", "--cluster-node-timeout", String(nodeTimeoutMs), ...atOnce];
  if (busPort !== undefined) clusterArgs.push("--cluster-port", String(busPort));
  if (password !== undefined) clusterArgs.push("--requirepass", password, "--masterauth", password);
  if (tls) {
    const files = ["--tls-client-cert-file", certificate("client"), "--tls-client-key-file", certificate("client-key")];
    clusterArgs.push("--tls-cluster", "yes", "--tls-replication", "yes", ...files);
  }
  return startRedis({ args: [...clusterArgs, ...args], tls });
}

async function form(cluster: RedisCluster, busPorts: readonly (number | undefined)[], tls: boolean): Promise<void> {
  const admins = cluster.nodes.map((node) => cluster.admin(node));
  const [first] = admins;
  try {
    await Promise.all(
      cluster.masters.map(async (_, index) => {
        // Without its own epoch, each node would have to resolve the conflict with the others first.
        await admins[index]?.cluster("SET-CONFIG-EPOCH", index + 1);
        await admins[index]?.cluster("ADDSLOTS", ...slotsOf(index, cluster.masters.length));
      }),
    );
    for (const [index, node] of cluster.nodes.entries()) {
      const busPort = busPorts[index];
      const port = tls ? node.tlsPort : node.port;
      if (index > 0) await first?.call("CLUSTER", "MEET", "127.0.0.1", port, ...(busPort === undefined ? [] : [busPort]));
    }
    await untilEach(admins, async (admin) => (await infoOf(admin, "cluster_known_nodes")) === String(admins.length));
    for (const [index, master] of admins.slice(0, cluster.replicas.length).entries()) {
      await admins[cluster.masters.length + index]?.cluster("REPLICATE", await myId(master));
    }
    await untilEach(admins, async (admin) => (await infoOf(admin, "cluster_state")) === "ok");
    await untilEach(admins.slice(cluster.masters.length), async (admin) =>
      (await admin.info("replication")).includes("master_link_status:up"),
    );
    await untilEach(admins, async (admin) => replicasIn(await admin.cluster("SLOTS")) === cluster.replicas.length);
  } finally {
    for (const admin of admins) admin.disconnect();
  }
}

function slotsOf(index: number, masters: number): number[] {
  const from = Math.floor((index * SLOTS) / masters);
  const to = Math.floor(((index + 1) * SLOTS) / masters);
  return Array.from({ length: to - from }, (_, offset) => from + offset);
}

async function untilEach(admins: readonly Redis[], isSo: (admin: Redis) => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + FORMED_TIMEOUT_MS;
  for (const admin of admins) {
    while (!(await isSo(admin))) {
      if (Date.now() > deadline) throw new Error(`the cluster did not form: ${String(await admin.cluster("NODES"))}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

async function infoOf(admin: Redis, field: string): Promise<string | undefined> {
  return new RegExp(`^${field}:(\\S+)`, "m").exec(await admin.cluster("INFO"))?.[1];
}

async function myId(admin: Redis): Promise<string> {
  return admin.cluster("MYID");
}

function replicasIn(slots: readonly (readonly unknown[])[]): number {
  return slots.reduce((sum, range) => sum + range.length - 3, 0);
}
