/** A Celery application with one task, which takes as long as its worker says. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@celery-metrics-exporter/testkit";

const NAME = "slow";
const CODE = `
import os, time
from celery import Celery

app = Celery("slow", broker=os.environ["BROKER_URL"])
app.conf.update(worker_send_task_events=True, task_send_sent_event=True, task_acks_late=True, task_ignore_result=True,
                task_default_queue="slow", broker_connection_retry_on_startup=True)

@app.task(name="slow.export")
def export():
    time.sleep(float(os.environ["SECONDS"]))
`;

export interface SlowApp {
  readonly name: string;
  readonly queue: string;
  /** Python that sends the task and prints its id. */
  readonly send: string;
  env(seconds: number): Readonly<Record<string, string>>;
}

export function slowApp(): SlowApp {
  const folder = temporaryFolder(NAME);
  writeFileSync(join(folder, `${NAME}.py`), CODE);
  return {
    name: NAME,
    queue: NAME,
    send: "import slow; print(slow.export.delay().id)",
    env: (seconds) => ({ PYTHONPATH: folder, SECONDS: String(seconds) }),
  };
}
