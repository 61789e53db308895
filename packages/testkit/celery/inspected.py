"""An application for tests that ask its workers by remote control, and count its queues.

Environment:
  BROKER_URL            where the tasks go (required)
  TASK_SERIALIZER       also the serializer of replies to remote control; default json
  KEY_PREFIX            Redis: `global_keyprefix`
  SENTINEL              BROKER_URL leads to a Sentinel
  REMOTE_CONTROL        `0` switches remote control off
  CONTROL_EXCHANGE      default celery
  REST_SECONDS          how long a task runs that `inspected.py` sends; default 0. It is acknowledged when it ends

As a program it sends tasks that nobody needs to run: `inspected.py QUEUE PRIORITY...` sends one task with each priority.
"""

import os
import sys
import time

from celery import Celery

SERIALIZER = os.environ.get("TASK_SERIALIZER", "json")
PREFIX = os.environ.get("KEY_PREFIX", "")

app = Celery("inspected", broker=os.environ["BROKER_URL"])
app.conf.update(
    accept_content=["json", SERIALIZER],
    task_serializer=SERIALIZER,
    task_ignore_result=True,
    task_acks_late=True,
    worker_enable_remote_control=os.environ.get("REMOTE_CONTROL") != "0",
    control_exchange=os.environ.get("CONTROL_EXCHANGE", "celery"),
    worker_pool_restarts=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)
if PREFIX:
    app.conf.broker_transport_options = {"global_keyprefix": PREFIX}
if "SENTINEL" in os.environ:
    app.conf.broker_transport_options = {"master_name": "mymaster"}


@app.task(name="inspected.rest")
def rest(seconds=0.0):
    time.sleep(seconds)


if __name__ == "__main__":
    queue, *priorities = sys.argv[1:]
    for priority in priorities:
        rest.apply_async([float(os.environ.get("REST_SECONDS", 0))], queue=queue, priority=int(priority))
