/** Creates vhosts on the shared RabbitMQ, for tests that use Celery's own exchange and queue names. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import type { RabbitmqPermissions } from "./documented-permissions.ts";
import { addUser, evaluate, setPermissions, type Control } from "../services/rabbitmq.mjs";
import { sharedServer } from "./shared-servers.ts";

export interface TestVhost {
  readonly url: string;
  readonly name: string;
  /** Creates users with these permissions in this vhost only; the password of each is its name. Returns the vhost's URL for each. */
  createUsers(permissions: readonly RabbitmqPermissions[]): Promise<string[]>;
  /** What the vhost has, one line each, sorted. */
  list(what: "queues" | "bindings"): Promise<string[]>;
  /** Removes the vhost and its users. */
  drop(): Promise<void>;
}

/**
 * An empty vhost with a unique name.
 *
 * @throws {Error} if TEST_RABBITMQ_URL names the shared RabbitMQ: it cannot be administered.
 */
export async function createVhost(): Promise<TestVhost> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  const all = { configure: ".*", write: ".*", read: ".*" };
  const node = sharedNode();
  await evaluate(node, `rabbit_vhost:add(<<"${name}">>, <<"guest">>), ${setPermissions("guest", name, all)}`);
  const url = new URL(sharedServer("rabbitmq").url);
  url.pathname = `/${name}`;
  const users: string[] = [];
  return {
    url: url.href,
    name,
    createUsers: async (permissions) => {
      const created = permissions.map((granted, index) => ({ user: `${name}_${users.length + index}`, granted }));
      await evaluate(node, created.flatMap(({ user, granted }) => [addUser(user, user), setPermissions(user, name, granted)]).join(", "));
      users.push(...created.map(({ user }) => user));
      return created.map(({ user }) => Object.assign(new URL(url), { username: user, password: user }).href);
    },
    list: async (what) => {
      const columns = what === "queues" ? ["name"] : ["source_name", "destination_name"];
      const text = await control(node, [`list_${what}`, "--silent", "--no-table-headers", "-p", name, ...columns]);
      return text
        .split("\n")
        .filter((line) => line !== "")
        .sort();
    },
    drop: async () => {
      const removals = users.map((user) => `rabbit_auth_backend_internal:delete_user(<<"${user}">>, <<"guest">>), `);
      await evaluate(node, `${removals.join("")}rabbit_vhost:delete(<<"${name}">>, <<"guest">>)`);
    },
  };
}

function sharedNode(): Control {
  const { control: node } = sharedServer("rabbitmq");
  if (node === undefined) throw new Error("vhosts can only be created on a RabbitMQ that the tests started: unset TEST_RABBITMQ_URL");
  return node;
}

/** Runs `rabbitmqctl`, and returns what it prints. */
async function control({ rabbitmqctl, environment }: Control, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(rabbitmqctl, args, { env: { ...process.env, ...environment } });
  return stdout;
}
