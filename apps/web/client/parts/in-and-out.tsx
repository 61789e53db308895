/** What went into a task, and what came out of it. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { TaskAnswer } from "../api/types.ts";
import { Panel } from "./panel.tsx";
import { Arguments } from "./python.tsx";
import { Call, Copy, Setting } from "./say.tsx";

const CUT = /\.\.\.\W*$/;

export function ArgumentsPanel({ task, isHidden }: { readonly task: TaskAnswer; readonly isHidden: boolean }): JSX.Element {
  const isRead = task.args_json !== null || task.kwargs_json !== null;
  const [asSent, setAsSent] = useState(false);
  const isParsed = isRead && !asSent;
  const isCut = CUT.test(task.args ?? "") || CUT.test(task.kwargs ?? "");
  const copied = `${task.args ?? "()"}\n${task.kwargs ?? "{}"}`;
  const views = (
    <>
      {isRead && (
        <button class="btn sm" type="button" aria-pressed={asSent} onClick={() => setAsSent(!asSent)}>
          As sent
        </button>
      )}
      <Copy text={copied} label="Copy the arguments as sent" />
    </>
  );
  return (
    <Panel title="Arguments" link={isHidden ? undefined : <span class="push row">{views}</span>}>
      <div class="pad stack">
        {isHidden ? (
          <Hidden />
        ) : (
          (["args", "kwargs"] as const).map((name) => (
            <div key={name}>
              <h3 class="muted">{name}</h3>
              {isParsed && task[`${name}_json`] !== null ? (
                <Arguments value={task[`${name}_json`]} label={name} />
              ) : task[name] === null ? (
                <p class="small soft">Not known: no event with arguments came for this task.</p>
              ) : (
                <pre class="wrap" tabIndex={0} role="group" aria-label={name}>
                  {task[name]}
                </pre>
              )}
            </div>
          ))
        )}
        {isCut && (
          <Call tone="retry" icon="warn" title="Cut by Celery">
            The rest was never sent to us. To see all of it, set <Setting>app.amqp.argsrepr_maxsize = 8192</Setting> and{" "}
            <Setting>app.amqp.kwargsrepr_maxsize = 8192</Setting> where the task is sent.
          </Call>
        )}
      </div>
    </Panel>
  );
}

function Hidden(): JSX.Element {
  return <p class="small soft">Your role, viewer, does not see the data of tasks. A reader does.</p>;
}

export function Result({ task, isHidden }: { readonly task: TaskAnswer; readonly isHidden: boolean }): JSX.Element {
  const why =
    task.status === "FAILURE" || task.status === "RETRY"
      ? "None: the task failed. Its exception is kept instead."
      : task.status === "SUCCESS"
        ? "None came with the event."
        : task.status === "REVOKED" || task.status === "REJECTED"
          ? `None: the task was ${task.status.toLowerCase()}.`
          : "None yet.";
  return (
    <Panel
      title="Result"
      link={
        task.result !== null && (
          <span class="push row">
            <Copy text={task.result} label="Copy the result" />
          </span>
        )
      }
    >
      <div class="pad">
        {task.result !== null ? (
          <pre class="wrap" tabIndex={0} role="group" aria-label="Result">
            {task.result}
          </pre>
        ) : isHidden ? (
          <Hidden />
        ) : (
          <p class="small soft">{why}</p>
        )}
      </div>
    </Panel>
  );
}
