"""Every way in which a task can end, with one task for each. The end-to-end tests run it on each pool, with any version of Celery.

As a program it sends all tasks, revokes some of them, and writes {<task's label>: <id>} as JSON.

Environment: BROKER_URL, where the tasks go. No results are kept: if a process exits and its result cannot be stored, as with the JSON
serializer, Celery 5.6 does not report its end.
"""

import argparse
import json
import os
import signal
import sys
import time

from celery import Celery, signals
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu import Producer, Queue


@signals.worker_ready.connect
def _send_events_at_once(sender=None, **_):
    """Celery collects events and publishes them together. In a thread pool it loses those that a thread sends meanwhile (celery/events/dispatcher.py,
    `flush`). Single events are published one after the other.
    """
    if isinstance(sender.pool, ThreadPool):
        sender.event_dispatcher.buffer_group = frozenset()


@signals.before_task_publish.connect
def _keep_in_queue(properties=None, **_):
    """RabbitMQ drops a message that expires in its queue without any event, so a busy worker would miss some of them."""
    properties.pop("expiration", None)


app = Celery("endings", broker=os.environ["BROKER_URL"])
app.conf.update(
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_ignore_result=True,
    task_default_queue="first",
    task_queues=[Queue("first"), Queue("second")],
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("cannot be pickled")
        self.reason = lambda: None


@app.task
def succeed(seconds=0.0):
    time.sleep(seconds)
    return "done"


@app.task
def fail():
    raise ValueError("two: lines\nof a message")


@app.task
def fail_without_message():
    raise ValueError


@app.task
def fail_with_cause():
    try:
        {}["key"]
    except KeyError as error:
        raise RuntimeError("the outer") from error


@app.task
def fail_with_context():
    try:
        {}["key"]
    except KeyError:
        raise RuntimeError("the outer")


@app.task
def fail_with_key():
    {}["key"]


@app.task
def fail_unpicklable():
    raise Unpicklable


@app.task(bind=True)
def retry(self, queue=None):
    if self.request.retries == 0:
        raise self.retry(countdown=0.2, exc=ValueError("again"), queue=queue)
    return "done"


@app.task(bind=True, max_retries=1)
def retry_in_vain(self):
    raise self.retry(countdown=0.2, exc=ValueError("in vain"))


@app.task
def replacement():
    time.sleep(0.2)
    return "done"


@app.task(bind=True)
def replace(self):
    return self.replace(replacement.si().set(queue="second"))


@app.task(acks_late=True)
def reject():
    raise Reject("bad", requeue=False)


@app.task(acks_late=True, bind=True)
def reject_with_requeue(self):
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("not now", requeue=True)
    return "done"


@app.task
def ignore():
    raise Ignore


@app.task(soft_time_limit=1)
def soft_limit():
    time.sleep(30)


@app.task(soft_time_limit=1)
def soft_limit_caught():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "done"


@app.task(time_limit=1)
def hard_limit():
    time.sleep(30)


@app.task
def run_on(seconds=30.0):
    """Runs until it or its worker is terminated."""
    time.sleep(seconds)


@app.task
def exit_itself():
    sys.exit(3)


@app.task
def exit_at_once():
    os._exit(3)


@app.task
def killed():
    """Is killed, as the kernel does when it is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def killed_and_requeued(self):
    if not self.request.delivery_info.get("redelivered"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


ANYWHERE = {
    "succeed": succeed,
    "fail": fail,
    "fail_without_message": fail_without_message,
    "fail_with_cause": fail_with_cause,
    "fail_with_context": fail_with_context,
    "fail_with_key": fail_with_key,
    "fail_unpicklable": fail_unpicklable,
    "retry": retry,
    "retry_in_vain": retry_in_vain,
    "replace": replace,
    "reject": reject,
    "reject_with_requeue": reject_with_requeue,
    "ignore": ignore,
}
IN_PROCESSES = {
    "soft_limit": soft_limit,
    "soft_limit_caught": soft_limit_caught,
    "hard_limit": hard_limit,
    "exit_itself": exit_itself,
    "exit_at_once": exit_at_once,
    "killed": killed,
    "killed_and_requeued": killed_and_requeued,
}
SIGNALS = ("SIGTERM", "SIGKILL", "SIGQUIT")


def send_undecodable(task_id):
    headers = {"lang": "py", "task": "endings.succeed", "id": task_id, "argsrepr": "()", "kwargsrepr": "{}"}
    with app.connection_for_write() as connection:
        Producer(connection.default_channel).publish(
            b"{not json", routing_key="first", content_type="application/json", content_encoding="utf-8", headers=headers
        )


def send_all(pool):
    ids = {}
    if pool == "prefork":
        terminated = {f"terminate_{name}": (name, run_on.delay().id) for name in SIGNALS}
        time.sleep(1.5)  # until they run
        for label, (name, task_id) in terminated.items():
            app.control.revoke(task_id, terminate=True, signal=name)
            ids[label] = task_id
        ids["lost"] = run_on.delay(600).id
        ids["terminate_SIGUSR1"] = run_on.delay().id
    for label, task in {**ANYWHERE, **(IN_PROCESSES if pool == "prefork" else {})}.items():
        ids[label] = task.delay().id
    ids["retry_elsewhere"] = retry.delay(queue="second").id
    ids["unregistered"] = app.send_task("endings.nothing").id
    waiting = succeed.apply_async(countdown=2)
    app.control.revoke(waiting.id)
    ids["revoke_before_start"] = waiting.id
    ids["expire"] = succeed.apply_async(countdown=2, expires=1).id
    ids["undecodable"] = "undecodable"
    send_undecodable(ids["undecodable"])
    if pool == "prefork":
        # Last, because the process lives on, and Celery takes its next exit, whatever the reason, as a termination (billiard, `_job_terminated`).
        time.sleep(3)
        app.control.revoke(ids["terminate_SIGUSR1"], terminate=True, signal="SIGUSR1")
    return ids


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", choices=("prefork", "threads", "solo"), required=True)
    print(json.dumps(send_all(parser.parse_args().pool)))
