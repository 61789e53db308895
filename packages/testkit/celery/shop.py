"""A small Celery shop: one task for each course that a task's life can take. The end-to-end tests and the demo run it.

Environment:
  BROKER_URL       where the tasks go (required)
  RESULT_BACKEND   where results go; none are kept if it is not set
  SHOP_QUEUE_PREFIX  prefix of every queue's name and, on Redis, of the keys that a worker shares with others; empty by default. With it
                   the shop takes no other application's tasks on a shared broker, and `delete_queues` removes everything.
  SHOP_LOG         a file to which every process with this module appends what it did, as JSON lines: the truth with which the
                   exporter's rows and metrics are compared. It is written from Celery's signals, not from its events.
"""

import json
import os
import time

from celery import Celery, chain, group, signals
from celery.exceptions import Ignore, Reject
from kombu import Exchange, Queue

PREFIX = os.environ.get("SHOP_QUEUE_PREFIX", "")
QUEUES = tuple(PREFIX + name for name in ("default", "payments", "mail", "images"))
# kombu's Redis transport keeps every worker's unacknowledged messages under these keys, and any worker returns those it considers lost.
UNACKED_KEYS = {f"{key}_key": PREFIX + key for key in ("unacked", "unacked_index", "unacked_mutex")}
QUEUE_EXPIRES_SECONDS = 3600
IS_ON_REDIS = os.environ["BROKER_URL"].startswith(("redis", "sentinel"))

app = Celery("shop", broker=os.environ["BROKER_URL"], backend=os.environ.get("RESULT_BACKEND") or None)
app.conf.update(
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_default_queue=PREFIX + "default",
    task_routes={
        "shop.charge_card": {"queue": PREFIX + "payments"},
        "shop.send_receipt": {"queue": PREFIX + "mail"},
        "shop.send_reminder": {"queue": PREFIX + "mail"},
        "shop.resize_image": {"queue": PREFIX + "images"},
    },
    task_ignore_result=not os.environ.get("RESULT_BACKEND"),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)
if PREFIX:
    # RabbitMQ removes the remains of a killed run.
    app.conf.task_queues = [
        Queue(name, Exchange(name, auto_delete=True), routing_key=name, expires=QUEUE_EXPIRES_SECONDS) for name in QUEUES
    ]
    if IS_ON_REDIS:
        app.conf.broker_transport_options = UNACKED_KEYS


def delete_queues():
    """Deletes the shop's own queues and their messages, once its workers have ended. Requires a prefix, since others may use the queues."""
    if not PREFIX:
        raise ValueError("SHOP_QUEUE_PREFIX is not set")
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        channel = connection.default_channel
        for queue in app.conf.task_queues:
            bound = queue(channel)
            bound.declare()  # kombu's Redis transport deletes only queues that this process has declared
            bound.delete()
        if IS_ON_REDIS:
            channel.client.delete(*UNACKED_KEYS.values())


class CardDeclined(Exception):
    pass


class GatewayDown(Exception):
    pass


@app.task(name="shop.update_stock")
def update_stock(sku, by=-1, seconds=0.0):
    """Is quick, and always succeeds."""
    time.sleep(seconds)
    return {"sku": sku, "by": by}


@app.task(name="shop.charge_card", bind=True, max_retries=2)
def charge_card(self, order, amount, trouble=None, seconds=0.01):
    """Succeeds, fails for a declined card, or retries while the gateway is down, and then succeeds ("gateway") or fails ("gateway_gone")."""
    time.sleep(seconds)
    if trouble == "declined":
        raise CardDeclined(f"order {order}: declined – {amount} €")
    if trouble == "gateway_gone" or (trouble == "gateway" and self.request.retries == 0):
        raise self.retry(exc=GatewayDown("no answer from the gateway"), countdown=0.3)
    return f"paid {amount} €"


@app.task(name="shop.send_receipt")
def send_receipt(*_previous, to, name="", seconds=0.01):
    """Has keyword arguments beyond ASCII."""
    time.sleep(seconds)
    return f"Merci, {name}! 谢谢 🛒"


@app.task(name="shop.send_reminder")
def send_reminder(to):
    """Is sent with a countdown, so that it waits in the worker until its ETA."""
    return to


@app.task(name="shop.resize_image")
def resize_image(path, size=(640, 480), seconds=0.1):
    """Takes longer than the others."""
    time.sleep(seconds)
    return [path, list(size)]


@app.task(name="shop.import_catalogue")
def import_catalogue(rows, seconds=60.0):
    """Runs until it is revoked with terminate."""
    time.sleep(seconds)
    return rows


@app.task(name="shop.announce_sale")
def announce_sale(item):
    """Is sent with an expiry before its ETA, so that it is revoked at its ETA."""
    return item


@app.task(name="shop.read_feed", acks_late=True)
def read_feed(url):
    """Is rejected without requeue."""
    raise Reject(f"cannot read {url}", requeue=False)


@app.task(name="shop.skip_duplicate")
def skip_duplicate(order):
    """Is ignored: it gets no final event."""
    raise Ignore(f"order {order} is known")


@app.task(name="shop.sync_prices", bind=True)
def sync_prices(self, items):
    """Sends custom events while it runs."""
    for done in range(items):
        self.send_event("task-progress", done=done, of=items)
    return items


@app.task(name="shop.place_order")
def place_order(order, amount, to, name):
    """Sends more tasks: a single one and a chain."""
    update_stock.delay(f"sku-{order}")
    chain(charge_card.si(order, amount), send_receipt.s(to=to, name=name)).delay()
    return order


@app.task(name="shop.take_inventory")
def take_inventory(skus):
    """Sends a group of tasks."""
    group(update_stock.s(f"shelf-{number}", by=0) for number in range(skus)).delay()
    return skus


def _log(**line):
    path = os.environ.get("SHOP_LOG")
    if not path:
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"at": time.time(), **line}) + "\n")


@signals.before_task_publish.connect
def _keep_in_queue(properties=None, **_):
    """RabbitMQ drops a message that expires in its queue without any event, so a busy worker would miss some of them."""
    properties.pop("expiration", None)


@signals.after_task_publish.connect
def _on_sent(sender=None, headers=None, routing_key=None, **_):
    _log(did="sent", id=headers["id"], name=sender, queue=routing_key, retries=headers.get("retries", 0))


_started = {}


@signals.task_prerun.connect
def _on_start(task_id=None, **_):
    _started[task_id] = time.monotonic()
    _log(did="started", id=task_id)


@signals.task_postrun.connect
def _on_end(task_id=None, task=None, state=None, **_):
    runtime = time.monotonic() - _started.pop(task_id)
    _log(did="ended", id=task_id, status=state, retries=task.request.retries, runtime=runtime, worker=task.request.hostname)


@signals.task_revoked.connect
def _on_revoked(request=None, terminated=False, expired=False, **_):
    _log(did="ended", id=request.id, status="REVOKED", terminated=bool(terminated), expired=bool(expired))
