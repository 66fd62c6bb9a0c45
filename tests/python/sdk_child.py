"""A user of the SDK in a process of its own: does what each line of standard input asks, answers with one line each.

What it says on a call are frames with numbers in them, which the echo at the other end brings back: frame n of a call
is to be heard at `first_us + n * 20 ms`, and what is heard is written down with the moment it came.
"""

from __future__ import annotations

import bisect
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from clutchcall.voice import AudioBridge, Voice

FRAME_US = 20_000
# Opus, CELT fullband, one frame of 20 ms (RFC 6716 §3.1); what follows is never decoded here.
TOC = b"\xf8"
LIMIT_S = 20.0
# Fewer than an engine carries.
MANY = 1500


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Talk:
    """One call's bridge, what it says and what it heard."""

    def __init__(self, voice: Voice, sid: str) -> None:
        self.heard: list[tuple[int, int, int]] = []
        self.first_us = 0
        self.said = 0
        self.bridge: AudioBridge = voice.audio_bridge.attach(sid, on_uplink=self._on_uplink)

    def _on_uplink(self, frame: bytes, ts_us: int) -> None:
        self.heard.append((now_us(), ts_us, int.from_bytes(frame[1:9])))

    def say(self, seconds: float) -> None:
        """Hands it all over at once: the bridge speaks it in its own time, behind what it still has to say."""
        if self.said == 0:
            self.first_us = now_us() + 200_000
        for number in range(self.said, self.said + int(seconds * 50)):
            self.bridge.publish_downlink(TOC + number.to_bytes(8) + bytes(51), self.first_us if number == 0 else None)
            self.said += 1

    def since(self, moment_us: int) -> tuple[int, int | None]:
        """How many frames came since, and when the first of them did."""
        at = bisect.bisect_left(self.heard, (moment_us, 0, 0))
        return len(self.heard) - at, self.heard[at][0] if at < len(self.heard) else None


class Child:
    def __init__(self, base_url: str, key: str, org: str, pool: str) -> None:
        self.voice = Voice(base_url, key, org, pool=int(pool))
        self.talks: dict[str, Talk] = {}

    def originate(self, count: int, to: str) -> list[str]:
        calls = [self.voice.calls.originate(to=to, from_="+15558675309", trunk_id="trunk_main") for _ in range(count)]
        for call in calls:
            call.wait(status="in_progress", timeout=LIMIT_S)
        return [call.sid for call in calls]

    def originate_until_refused(self, to: str) -> list[str]:
        """Places calls, one after the other, for as long as the engine answers."""
        from clutchcall.errors import APIConnectionError

        sids: list[str] = []
        print(json.dumps({"answer": None}), flush=True)
        try:
            while len(sids) < MANY:
                sids.append(self.voice.calls.originate(to=to, from_="+15558675309", trunk_id="trunk_main").sid)
        except APIConnectionError:
            return sids
        raise AssertionError(f"the engine still answers after {MANY} calls")

    def attach(self, sids: list[str]) -> None:
        for sid in sids:
            self.talks[sid] = Talk(self.voice, sid)

    def attach_when_free(self, sid: str) -> int:
        """Asks until nobody else has the right to speak. When it was granted."""
        from clutchcall.errors import ConflictError

        deadline, pause = time.monotonic() + LIMIT_S, threading.Event()
        while True:
            try:
                self.attach([sid])
            except ConflictError:
                if time.monotonic() > deadline:
                    raise
                pause.wait(0.02)
            else:
                return now_us()

    def say(self, seconds: float) -> dict[str, int]:
        for talk in self.talks.values():
            talk.say(seconds)
        return {sid: talk.first_us for sid, talk in self.talks.items()}

    def heard_since(self, moment_us: int, count: int) -> dict[str, int | None]:
        """Waits until every call has heard `count` frames since; when the first of them came."""
        deadline, pause = time.monotonic() + LIMIT_S, threading.Event()
        while True:
            came = {sid: talk.since(moment_us) for sid, talk in self.talks.items()}
            if all(heard >= count for heard, _ in came.values()) or time.monotonic() > deadline:
                return {sid: first if heard >= count else None for sid, (heard, first) in came.items()}
            pause.wait(0.005)

    def silent(self) -> int:
        """Waits until nothing is on its way any more, on however slow a machine: no call hears anything for 0.1 s."""
        heard, since, pause = -1, time.monotonic(), threading.Event()
        deadline = since + LIMIT_S
        while time.monotonic() < min(since + 0.1, deadline):
            count = sum(len(talk.heard) for talk in self.talks.values())
            if count != heard:
                heard, since = count, time.monotonic()
            pause.wait(0.005)
        return heard

    def in_state(self, state: str) -> dict[str, int | None]:
        """Waits until every bridge was seen in the state; when each was."""
        seen: dict[str, int | None] = dict.fromkeys(self.talks)
        deadline, pause = time.monotonic() + LIMIT_S, threading.Event()
        while None in seen.values() and time.monotonic() < deadline:
            for sid, talk in self.talks.items():
                if seen[sid] is None and talk.bridge.state == state:
                    seen[sid] = now_us()
            pause.wait(0.002)
        return seen

    def told(self) -> dict[str, Any]:
        """All there is to know."""
        return {
            sid: {
                "state": talk.bridge.state,
                "reason": talk.bridge.reason,
                "frames_in": talk.bridge.stats().frames_in,
                "frames_out": talk.bridge.stats().frames_out,
                "reconnects": talk.bridge.stats().reconnects,
                "migrations": talk.bridge.stats().migrations,
                "stats": repr(talk.bridge.stats()),
                "heard": list(talk.heard),
                "first_us": talk.first_us,
            }
            for sid, talk in self.talks.items()
        }

    def refusals(self) -> dict[str, str]:
        """What publishing raises, by its class."""
        return {sid: _raised(lambda talk=talk: talk.say(0.02)) for sid, talk in self.talks.items()}  # type: ignore[misc]

    def rows(self, sids: list[str]) -> dict[str, list[str | None]]:
        calls = [self.voice.calls.get(sid) for sid in sids]
        return {call.sid: [call.status, call.end_reason] for call in calls}

    def hangup(self, sids: list[str]) -> dict[str, list[str | None]]:
        for sid in sids:
            self.voice.calls.get(sid).hangup()
            self.voice.calls.get(sid).wait(timeout=LIMIT_S)
        return self.rows(sids)


def _raised(act: Callable[[], None]) -> str:
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return ""


def main() -> None:
    child = Child(*sys.argv[1:5])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            answer["answer"] = getattr(child, asked.pop("do"))(**asked)
        except Exception as error:
            answer["error"] = repr(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
