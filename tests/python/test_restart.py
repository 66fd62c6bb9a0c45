"""Relay, engine and SDK are three processes: each is killed in mid-call, and the rest goes on.

The calls are echoes: a frame that comes back was carried both ways. What is measured is printed (`pytest -s`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Stage
from talking import (
    BACK_WITHIN_US,
    BRIDGES,
    FRAME_US,
    PAUSE_US,
    STALE_US,
    ages,
    check_fresh,
    check_order,
    check_unique,
    figures,
    hear_more,
    now_us,
    pauses,
    talking,
)

RINGS = "+15550009000"
# What is said before a pause, and how soon in it an engine asks whether its path lives.
PAUSES_S, ASKED_US, TRIES = 0.6, 200_000, 10


# Bridges on one connection: each has its own, or as many as may share one.
@pytest.fixture(params=[1, 32], ids=["own", "shared"])
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(tmp_path, pool=request.param) as stage:
        yield stage


@pytest.mark.parametrize("at_once", [False, True], ids=["after-a-while", "at-once"])
def test_the_relay_is_killed_under_calls(stage: Stage, at_once: bool) -> None:
    """It comes back once everybody has noticed, or before anybody has: then its stateless resets tell."""
    child = stage.sdk()
    sids = talking(child, BRIDGES, 45.0)
    killed = now_us()
    stage.relay.kill()
    if not at_once:
        noticed = child.ask("in_state", state="reconnecting")
        assert all(noticed.values()), child.ask("told")
        figures("noticed after", [at - killed for at in noticed.values()])

    child.ask("silent")
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
    talking(child, BRIDGES, 30.0)
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


def test_a_partition_that_begins_in_a_pause(stage: Stage) -> None:
    """An echo of nothing is nothing: the engine has no word on its way that could tell it of the dead path."""
    child = stage.sdk()
    talking(child, BRIDGES, PAUSES_S)
    said = int(PAUSES_S * 50)
    for _ in range(TRIES):
        child.ask("silent")
        stage.engine_side.tell("cut")
        heard = max(at for call in child.ask("told").values() for at, *_ in call["heard"])
        if now_us() - heard < ASKED_US:
            break
        # On a slow machine the pause was longer, and the path asked before it died.
        stage.engine_side.tell("heal")
        child.ask("say", seconds=PAUSES_S)
        hear_more(child)
        said += int(PAUSES_S * 50)
    else:
        pytest.fail("this machine is too slow for a pause of 0.1 s")
    speaks = now_us()
    child.ask("say", seconds=2.5)
    _, healed = stage.engine_side.cut_for(1.5)
    hear_more(child, since=healed)
    calls = child.ask("told").values()
    late = [at - speaks - (n - said) * FRAME_US for call in calls for at, _, n in call["heard"] if n >= said]
    print(f"the oldest frame came {max(late) / 1000:.0f} ms late there and back")
    assert max(late) < STALE_US


def test_the_engine_is_killed(stage: Stage) -> None:
    child, busy = stage.sdk(), stage.sdk("busy")
    sids = talking(child, BRIDGES, 45.0)
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
    assert max(pauses(told)) < PAUSE_US, "the others' audio went on"
    assert third.ask("hangup", sids=sids + others) == {sid: ["completed", "normal"] for sid in sids + others}
    assert all(other.ask("in_state", state="closed").values())
