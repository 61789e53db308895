/** Fresh vhosts on the shared RabbitMQ, for tests that use Celery's own exchange and queue names. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { sharedServer } from "./shared-servers.ts";

export interface TestVhost {
  readonly url: string;
  readonly name: string;
  drop(): Promise<void>;
}

/**
 * An empty vhost of a name nobody else uses (about a second: it takes one `rabbitmqctl`).
 *
 * @throws {Error} when the shared RabbitMQ is one that TEST_RABBITMQ_URL named: it cannot be administered.
 */
export async function createVhost(): Promise<TestVhost> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  await evaluate(
    `rabbit_vhost:add(<<"${name}">>, <<"guest">>), ` +
      `rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"${name}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>).`,
  );
  const url = new URL(sharedServer("rabbitmq").url);
  url.pathname = `/${name}`;
  return { url: url.href, name, drop: () => evaluate(`rabbit_vhost:delete(<<"${name}">>, <<"guest">>).`) };
}

/** Runs Erlang on the node: one start of `rabbitmqctl` for several steps. */
async function evaluate(expression: string): Promise<void> {
  const { control } = sharedServer("rabbitmq");
  if (control === undefined) throw new Error("vhosts can only be made on a RabbitMQ that the tests started: unset TEST_RABBITMQ_URL");
  await promisify(execFile)(control.rabbitmqctl, ["eval", expression], { env: { ...process.env, ...control.environment } });
}
