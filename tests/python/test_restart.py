"""Relay, engine and SDK are three processes: each is killed in mid-call, and the rest goes on.

The calls are echoes: a frame that comes back was carried both ways. What is measured is printed (`pytest -s`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Process, Stage

ECHO = "+15550009012"
RINGS = "+15550009000"
CALLS = 10
FRAME_US = 20_000
# What may leave before its time (product: 60 ms ahead), one tick of the echo, and one of whoever reads the clock.
AHEAD_US = 60_000 + 2 * FRAME_US
# Generous, for machines with other work; what was measured is printed.
BACK_WITHIN_US = 10_000_000
STALE_US = 600_000
PAUSE_US = 1_000_000


def now_us() -> int:
    return time.monotonic_ns() // 1000


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        yield stage


def talking(child: Process, count: int, seconds: float) -> list[str]:
    """That many calls, heard in both directions."""
    sids: list[str] = child.ask("originate", count=count, to=ECHO)
    child.ask("attach", sids=sids)
    child.ask("in_state", state="connected")
    child.ask("say", seconds=seconds)
    hear_more(child)
    return sids


def hear_more(child: Process, count: int = 25, since: int | None = None) -> list[int]:
    """Waits for frames of every call; when the first one of each came."""
    came: dict[str, int | None] = child.ask("heard_since", moment_us=since or now_us(), count=count)
    silent = [sid for sid, at in came.items() if at is None]
    assert not silent, f"{len(silent)} of {len(came)} calls are silent: {child.ask('told')[silent[0]]}"
    return [at for at in came.values() if at is not None]


def figures(what: str, times_us: list[int]) -> None:
    least, middle, most = (sorted(times_us)[i] / 1000 for i in (0, len(times_us) // 2, -1))
    print(f"{what}: {least:.0f} / {middle:.0f} / {most:.0f} ms (least, median, most of {len(times_us)})")


def check_unique(told: dict[str, Any]) -> None:
    """Nothing twice, on any call."""
    for sid, call in told.items():
        for column in (1, 2):
            values = [heard[column] for heard in call["heard"]]
            assert len(values) == len(set(values)), (sid, column)


def check_order(told: dict[str, Any]) -> None:
    """Nothing twice and nothing out of its order, on any call."""
    for sid, call in told.items():
        for column in (1, 2):
            values = [heard[column] for heard in call["heard"]]
            assert values == sorted(set(values)), (sid, column)


def ages(told: dict[str, Any]) -> tuple[int, int]:
    """How late the latest frame of all calls came: after the engine stamped it, and after it was due to be said."""
    heard, said = [], []
    for call in told.values():
        offset = min(at - stamp for at, stamp, _ in call["heard"])
        heard += [at - stamp - offset for at, stamp, _ in call["heard"]]
        said += [at - call["first_us"] - number * FRAME_US for at, _, number in call["heard"]]
    return max(heard), max(said)


def check_fresh(told: dict[str, Any], moment_us: int) -> None:
    """What came since was said since, by both clocks: the engine's, which stamps, and that of the one who spoke."""
    for sid, call in told.items():
        before = [at - stamp for at, stamp, _ in call["heard"] if at < moment_us]
        # The engine's clock may count from another moment; the quickest frame tells from which.
        offset = min(before)
        for at, stamp, number in call["heard"]:
            if at >= moment_us:
                assert stamp + offset >= moment_us - FRAME_US, (sid, "replayed by the engine", number)
                assert call["first_us"] + number * FRAME_US >= moment_us - AHEAD_US, (sid, "replayed by us", number)


@pytest.mark.parametrize("at_once", [False, True], ids=["after-a-while", "at-once"])
def test_the_relay_is_killed_under_ten_calls(stage: Stage, at_once: bool) -> None:
    """It comes back once everybody has noticed, or before anybody has: then its stateless resets tell."""
    child = stage.sdk()
    sids = talking(child, CALLS, 45.0)
    killed = now_us()
    stage.relay.kill()
    if not at_once:
        noticed = child.ask("in_state", state="reconnecting")
        assert all(noticed.values()), child.ask("told")
        figures("noticed after", [at - killed for at in noticed.values()])

    restarted = now_us()
    stage.restart_relay()
    answers = now_us()
    back = hear_more(child, since=restarted)
    figures("relay: audio back after the port answers", [at - answers for at in back])
    assert max(back) - answers < BACK_WITHIN_US
    told = child.ask("told")
    print(next(iter(told.values()))["stats"])
    check_order(told)
    check_fresh(told, restarted)
    assert child.ask("rows", sids=sids) == {sid: ["in_progress", None] for sid in sids}
    assert child.ask("hangup", sids=sids) == {sid: ["completed", "normal"] for sid in sids}


def test_packets_and_a_partition(stage: Stage) -> None:
    child = stage.sdk()
    talking(child, CALLS, 30.0)
    frames = -sum(call["frames_in"] + call["frames_out"] for call in child.ask("told").values())
    sdk, engine = stage.sdk_side.packets, stage.engine_side.packets
    hear_more(child, 100)
    frames += sum(call["frames_in"] + call["frames_out"] for call in child.ask("told").values())
    sdk, engine = stage.sdk_side.packets - sdk, stage.engine_side.packets - engine
    print(f"packets per frame: {sdk.both / frames:.2f} between SDK and relay, {engine.both / frames:.2f} to the engine")
    assert min(sdk.there, sdk.back, engine.there, engine.back) > 0
    assert sdk.both <= 2.5 * frames
    assert engine.both <= 2.5 * frames

    for side in (stage.sdk_side, stage.engine_side):
        passed, healed = side.cut_for(2.0)
        assert passed.both == 0
        back = hear_more(child, 50, since=healed)
        figures("audio back after a partition", [at - healed for at in back])
        assert max(back) - healed < BACK_WITHIN_US
    told = child.ask("told")
    check_unique(told)
    heard_late, said_late = ages(told)
    print(f"the oldest frame came {heard_late / 1000:.0f} ms late to us, {said_late / 1000:.0f} ms there and back")
    assert heard_late < STALE_US
    assert said_late < STALE_US


def test_the_engine_is_killed(stage: Stage) -> None:
    child, busy = stage.sdk(), stage.sdk("busy")
    sids = talking(child, CALLS, 45.0)
    # Somebody places calls in the very moment.
    busy.ask("originate_until_refused", to=RINGS)
    hear_more(child)
    killed = now_us()
    stage.engine.kill()
    answered = busy.answer()
    stage.restart_engine()
    answers = now_us()
    closed = child.ask("in_state", state="closed")
    assert all(closed.values()), child.ask("told")
    figures("bridges closed after the engine answers", [at - answers for at in closed.values()])
    assert min(closed.values()) > killed
    assert child.ask("refusals") == dict.fromkeys(sids, "BridgeClosed")
    print(f"{len(answered)} calls were placed until then")
    sids += answered
    assert child.ask("rows", sids=sids) == {sid: ["failed", "node_lost"] for sid in sids}
    other = stage.sdk("second")
    later = talking(other, 2, 10.0)
    assert other.ask("hangup", sids=later) == {sid: ["completed", "normal"] for sid in later}


def test_a_user_is_killed(stage: Stage) -> None:
    child, other = stage.sdk(), stage.sdk("second")
    sids = talking(child, 2, 45.0)
    others = talking(other, 2, 45.0)
    killed = now_us()
    child.kill()
    third = stage.sdk("third")
    free = [third.ask("attach_when_free", sid=sid) - killed for sid in sids]
    figures("right to speak free after", free)
    third.ask("say", seconds=20.0)
    hear_more(third)
    hear_more(other)
    told = other.ask("told")
    check_order(told)
    for call in told.values():
        stamps = [stamp for _, stamp, _ in call["heard"]]
        pauses = [later - earlier for earlier, later in itertools.pairwise(stamps)]
        assert max(pauses) < PAUSE_US, "the others' audio went on"
    assert third.ask("hangup", sids=sids + others) == {sid: ["completed", "normal"] for sid in sids + others}
    assert all(other.ask("in_state", state="closed").values())
