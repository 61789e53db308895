"""Sends the shop's tasks at a steady rate, waits until they end, and reports what Celery really did with them.

The report is JSON: {"sent": <tasks this program sent>, "ended": <whether all of them ended>, "tasks": {<id>: {name, queue, status,
retries, runtime, sent_at, started_at, finished_at}}}. `tasks` includes the tasks that other tasks sent. `status` is Celery's word for the last
thing that happened: SUCCESS, FAILURE, REVOKED, REJECTED, IGNORED, or RETRY, STARTED, PENDING if it has not ended. It comes from SHOP_LOG (see
shop.py). SIGTERM and SIGINT stop the sending early.
"""

import argparse
import json
import os
import random
import signal
import sys
import time

import shop

NAMES = ("Zoë", "Łukasz", "李雷", "Ana María", "O'Brien", 'Ann "Nan" Lee', "Søren")
FINAL = {"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"}


def stock(rng):
    shop.update_stock.delay(f"A-{rng.randrange(1000)}", seconds=rng.uniform(0, 0.02))


def charge(rng):
    trouble = rng.choices((None, "declined", "gateway", "gateway_gone"), (80, 8, 8, 4))[0]
    shop.charge_card.delay(rng.randrange(10_000), round(rng.uniform(1, 200), 2), trouble=trouble, seconds=rng.uniform(0, 0.05))


def receipt(rng):
    name = rng.choice(NAMES)
    shop.send_receipt.delay(to=f"{rng.randrange(1000)}@shop.example", name=name, seconds=rng.uniform(0, 0.03))


def image(rng):
    shop.resize_image.delay(f"products/{rng.randrange(100)}.png", size=(rng.choice((320, 640)), 480), seconds=rng.uniform(0.02, 0.15))


def order(rng):
    shop.place_order.delay(rng.randrange(10_000), 19.99, to="ann@shop.example", name=rng.choice(NAMES))


def inventory(rng):
    shop.take_inventory.delay(rng.randrange(2, 5))


def reminder(rng):
    shop.send_reminder.apply_async(("ann@shop.example",), countdown=rng.uniform(0.5, 2))


def sale(rng):
    # It expires while a worker holds it.
    shop.announce_sale.apply_async((f"A-{rng.randrange(1000)}",), countdown=1.5, expires=1)


def feed(rng):
    shop.read_feed.delay(f"https://feed.example/{rng.randrange(100)}")


def duplicate(rng):
    shop.skip_duplicate.delay(rng.randrange(10_000))


def prices(rng):
    shop.sync_prices.delay(rng.randrange(1, 4))


WEIGHTS = {
    stock: 40, charge: 20, receipt: 15, image: 6, order: 4, inventory: 2,
    reminder: 4, sale: 2, feed: 2, duplicate: 2, prices: 3,
}  # fmt: skip


class Sending:
    """Sends tasks until it reaches the count or the time, or gets a signal."""

    def __init__(self, options):
        self.options = options
        self.stopped = False
        self.sent = 0
        self.rng = random.Random(options.seed)

    def stop(self, *_):
        self.stopped = True

    def run(self):
        kinds, weights = ([stock], [1]) if self.options.mix == "quick" else (list(WEIGHTS), list(WEIGHTS.values()))
        begin = time.monotonic()
        while not self.is_over(begin):
            if self.options.mix == "all" and self.sent < len(kinds):
                kind = kinds[self.sent]  # one of each first, even if the count is low
            else:
                kind = self.rng.choices(kinds, weights)[0]
            kind(self.rng)
            self.sent += 1
            if self.options.rate:
                time.sleep(max(0.0, begin + self.sent / self.options.rate - time.monotonic()))

    def is_over(self, begin):
        if self.stopped:
            return True
        if self.options.count is not None:
            return self.sent >= self.options.count
        return time.monotonic() - begin >= self.options.seconds


def revoke_some(log):
    """Revokes one task before it runs and one while it runs. Only process pools can do the latter."""
    waiting = shop.send_reminder.apply_async(("late@shop.example",), countdown=1.5)
    shop.app.control.revoke(waiting.id)
    running = shop.import_catalogue.delay(1000)
    deadline = time.monotonic() + 30
    while read_tasks(log).get(running.id, {}).get("status") != "STARTED" and time.monotonic() < deadline:
        time.sleep(0.1)
    shop.app.control.revoke(running.id, terminate=True, signal="SIGTERM")
    return 2


def read_tasks(log):
    """The log's lines, grouped by task."""
    tasks = {}
    with open(log, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    for line in lines:
        task = tasks.setdefault(line["id"], {"status": "PENDING", "retries": 0})
        if line["did"] == "sent":
            task.update(name=line["name"], queue=line["queue"])
            task.setdefault("sent_at", line["at"])
        elif line["did"] == "started":
            task.setdefault("started_at", line["at"])
            if task["status"] in ("PENDING", "RETRY"):
                task["status"] = "STARTED"
        elif task["status"] not in FINAL:
            task["status"] = line["status"]
            if line["status"] in FINAL:
                task["finished_at"] = line["at"]
            for key in ("runtime", "worker", "terminated", "expired"):
                if key in line:
                    task[key] = line[key]
        task["retries"] = max(task["retries"], line.get("retries", 0))
    return tasks


def wait_for_ends(log, seconds):
    """Waits until every task has ended. Checks twice, because a task that ended may have sent others."""
    deadline = time.monotonic() + seconds
    calm = 0
    while calm < 2 and time.monotonic() < deadline:
        done = all(task["status"] in FINAL for task in read_tasks(log).values())
        calm = calm + 1 if done else 0
        time.sleep(0.3)
    return calm >= 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=0, help="tasks per second; 0 means as fast as possible")
    parser.add_argument("--seconds", type=float, default=10, help="how long to send tasks")
    parser.add_argument("--count", type=int, help="number of tasks to send, instead of --seconds")
    parser.add_argument("--mix", choices=("all", "quick"), default="all", help="quick: only tasks that succeed at once")
    parser.add_argument("--revoke", action="store_true", help="also revoke one waiting and one running task")
    parser.add_argument("--seed", type=int, default=None, help="the same seed sends the same tasks")
    parser.add_argument("--wait-seconds", type=float, default=60, help="how long to wait until the sent tasks end")
    parser.add_argument("--output", default="-", help="the report's file; - is standard output")
    options = parser.parse_args()
    log = os.environ.get("SHOP_LOG")
    if not log:
        parser.error("SHOP_LOG must name the log file, the same as the workers'")
    open(log, "a", encoding="utf-8").close()

    sending = Sending(options)
    signal.signal(signal.SIGTERM, sending.stop)
    signal.signal(signal.SIGINT, sending.stop)
    sending.run()
    sent = sending.sent + (revoke_some(log) if options.revoke and not sending.stopped else 0)
    ended = wait_for_ends(log, options.wait_seconds)
    report = json.dumps({"sent": sent, "ended": ended, "tasks": read_tasks(log)}, ensure_ascii=False)
    if options.output == "-":
        print(report)
    else:
        with open(options.output + ".new", "w", encoding="utf-8") as file:
            file.write(report)
        os.replace(options.output + ".new", options.output)
    return 0 if ended else 1


if __name__ == "__main__":
    sys.exit(main())
