"""Calls over HTTP at a steady rate: how many failed, what their set-up cost us, and what memory is left behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

from far import ORG, Serving
from wire import Wire

SENDERS = 8
ENDED = ("completed", "failed", "no_answer")
LAST_CALLS_S = 30.0


class Watch:
    """The rows of all calls, as the engine tells them (`voice.calls.events`), and when each status came."""

    def __init__(self, engine: Serving) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.at_ns: dict[tuple[str, str], int] = {}
        self.missed = 0
        self._connection = engine.connect()
        self._connection.timeout = 60
        headers = {"authorization": f"Bearer {engine.key}"}
        self._connection.request("GET", "/api/trpc/voice.calls.events", headers=headers)
        self._answer = self._connection.getresponse()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for kind, data in events(iter(self._answer.readline, b"")):
                at = time.time_ns()
                if kind == "gap":
                    self.missed += data["missed"] or 1
                    continue
                self.rows[data["sid"]] = data
                self.at_ns.setdefault((data["sid"], data["status"]), at)
        except (OSError, ValueError, AttributeError):
            return  # The engine ends, or the watch does.

    def ended(self) -> int:
        return sum(1 for row in list(self.rows.values()) if row["status"] in ENDED)


def events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in lines:
        if line.startswith(b"event: "):
            kind = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield kind, json.loads(line[6:])


class Load:
    """So many calls a second; each is asked for at its own time, whatever became of the one before."""

    def __init__(self, engine: Serving, per_s: float, count: int) -> None:
        self.engine, self.per_s, self.count = engine, per_s, count
        self.asked_ns: dict[str, int] = {}
        self.numbers: dict[str, str] = {}
        self.refused: list[str] = []
        self.late_s = 0.0
        self._next, self._lock = iter(range(count)), threading.Lock()

    def run(self, each: Callable[[int], None] | None = None) -> None:
        begun = time.monotonic() + 0.2
        senders = [threading.Thread(target=self._send, args=(begun, each)) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    def _send(self, begun: float, each: Callable[[int], None] | None) -> None:
        connection = self.engine.connect()
        connection.connect()
        while True:
            with self._lock:
                nth = next(self._next, None)
            if nth is None:
                break
            due = begun + nth / self.per_s
            time.sleep(max(0.0, due - time.monotonic()))
            self.late_s = max(self.late_s, time.monotonic() - due)
            self._originate(connection, nth)
            if each:
                each(nth)
        connection.close()

    def _originate(self, connection: HTTPConnection, nth: int) -> None:
        number = f"+1555{nth:07}"
        trunk = self.engine.trunks[nth % len(self.engine.trunks)]
        asked = {"orgId": ORG, "to": number, "from": "+15550000000", "trunkId": trunk}
        headers = {"authorization": f"Bearer {self.engine.key}", "content-type": "application/json"}
        self.asked_ns[number] = time.time_ns()
        connection.request("POST", "/api/trpc/voice.calls.originate", json.dumps(asked), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            self.numbers[json.loads(body)["result"]["data"]["sid"]] = number
        else:
            self.refused.append(body.decode(errors="replace")[:200])


def wait_ended(watch: Watch, load: Load) -> int:
    """Waits for the last of them; how many never ended."""
    until = time.monotonic() + LAST_CALLS_S
    while watch.ended() < len(load.numbers) and time.monotonic() < until:
        time.sleep(0.1)
    return len(load.numbers) - watch.ended()


def failures(watch: Watch, load: Load) -> list[str]:
    """Of every call that did not end as it should: why."""
    found = list(load.refused)
    for sid in load.numbers:
        row = watch.rows.get(sid, {"status": "unseen"})
        if (row["status"], row.get("endReason")) != ("completed", "normal"):
            found.append(f"{row['status']}: {row.get('endReason')} {row.get('sipCode')}")
    return found


def set_up(wire: Wire, watch: Watch, load: Load) -> dict[str, list[int]]:
    """What set-up cost us, in nanoseconds: from the request to the INVITE; from the far end's 200 to our ACK, and until
    `in_progress` is told; and the first two together.
    """
    sids = {number: sid for sid, number in load.numbers.items()}
    found: dict[str, list[int]] = {"request → INVITE": [], "200 → ACK": [], "200 → in_progress told": [], "ours": []}
    for seen in list(wire.calls.values()):
        asked, at = load.asked_ns.get(seen.number), seen.at_ns
        if asked is None or not {"INVITE", "200 INVITE", "ACK"} <= at.keys():
            continue
        placed, acked = at["INVITE"] - asked, at["ACK"] - at["200 INVITE"]
        found["request → INVITE"].append(placed)
        found["200 → ACK"].append(acked)
        found["ours"].append(placed + acked)
        told = watch.at_ns.get((sids.get(seen.number, ""), "in_progress"))
        if told:
            found["200 → in_progress told"].append(told - at["200 INVITE"])
    return found
