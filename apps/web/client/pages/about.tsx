/** About: who is logged in, where the data comes from, and where to go on. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { Me, Names } from "../api/types.ts";
import { Bar } from "../parts/bar.tsx";
import { CONTROL_IS_OFF } from "../parts/control.tsx";
import { Failing } from "../parts/say.tsx";
import { number, zone } from "../parts/format.ts";

const MAY: Readonly<Record<Me["role"], string>> = {
  viewer: "sees tasks, without arguments, results, exceptions and tracebacks",
  reader: "sees everything",
  operator: "sees everything",
  admin: "sees everything",
};

export function About(): JSX.Element {
  const me = useQuery<Me>("me");
  const names = useQuery<Names>("names");
  return (
    <>
      <Bar title="About" />
      <div class="body">
        <Failing query={me} />
        <div class="cols even">
          <section class="panel" aria-labelledby="about-you">
            <header>
              <h2 id="about-you">You</h2>
            </header>
            <div class="pad">
              <dl class="kv">
                <dt>User</dt>
                <dd>{me.data?.name === "anyone" ? "everyone on this machine: no users are set" : me.data?.name}</dd>
                <dt>Role</dt>
                <dd>{me.data !== undefined && `${me.data.role}: ${MAY[me.data.role]}`}</dd>
                {typeof me.data?.logout === "string" && <LogOut at={me.data.logout} />}
                <dt>Time zone</dt>
                <dd>
                  {Intl.DateTimeFormat().resolvedOptions().timeZone}, now {zone()}
                </dd>
                <dt>Control</dt>
                <dd>{CONTROL_IS_OFF}</dd>
              </dl>
            </div>
          </section>
          <section class="panel" aria-labelledby="about-data">
            <header>
              <h2 id="about-data">Data</h2>
            </header>
            <div class="pad">
              <dl class="kv">
                <dt>Task types</dt>
                <dd>{names.data !== undefined && number(names.data.names.length)}</dd>
                <dt>Queues in use</dt>
                <dd>{names.data?.queues.join(", ")}</dd>
                <dt>Workers in use</dt>
                <dd>{names.data?.workers.join(", ")}</dd>
                <dt>API</dt>
                <dd>
                  <a class="link" href="./api/v1/openapi.json" target="_blank" rel="noreferrer">
                    openapi.json
                  </a>
                  , with everything that this page uses
                </dd>
              </dl>
            </div>
          </section>
        </div>
      </div>
    </>
  );
}

function LogOut({ at }: { readonly at: string }): JSX.Element {
  const logOut = async (): Promise<void> => {
    await fetch(`./${at}`, { method: "POST" });
    window.location.assign("./auth/logged-out");
  };
  return (
    <>
      <dt>Session</dt>
      <dd>
        <button class="btn sm" type="button" onClick={() => void logOut()}>
          Log out
        </button>
      </dd>
    </>
  );
}
