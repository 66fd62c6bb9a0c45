"""What a path and a process can suffer beside death (`test_restart.py`): partitions, other addresses, stops, a drain.

Relay, engine and SDK are three processes. `make faults` runs all of it under a hundred bridges; the tests of every day
take fewer, on one shared connection, and leave out the long ones (mark `faults`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import namespaces
import pytest
from processes import Process, Stage
from talking import (
    BACK_WITHIN_US,
    BRIDGES,
    STALE_US,
    ages,
    check_fresh,
    check_unique,
    figures,
    hear_more,
    now_us,
    pauses,
    reconnects,
    talking,
)

# Bridges on one connection: as many as may share one, as engines say by default; or each has its own.
POOLS = [pytest.param(32, id="shared"), pytest.param(1, id="own", marks=pytest.mark.faults)]
# What a bridge takes at once is bounded; longer speeches come in parts.
PART_S = 20.0


@pytest.fixture(params=POOLS)
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(tmp_path, pool=request.param) as stage:
        yield stage


@pytest.fixture(params=POOLS)
def abroad(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Stage, namespaces.Namespace]]:
    """Users of the SDK are on a network of their own."""
    namespaces.wanted()
    with namespaces.Namespace() as namespace, Stage(tmp_path, pool=request.param, namespace=namespace) as stage:
        yield stage, namespace


def speak_on(child: Process, seconds: float) -> None:
    """Lets that time pass, and never lets the speakers run dry."""
    pause = threading.Event()
    while seconds > 0:
        part = min(seconds, PART_S / 2)
        child.ask("say", seconds=part)
        pause.wait(part)
        seconds -= part


def back(child: Process, healed_us: int, what: str) -> None:
    """Every call is heard again; nothing twice, nothing of before."""
    came = hear_more(child, 50, since=healed_us)
    figures(f"{what}: audio back", [at - healed_us for at in came])
    assert max(came) - healed_us < BACK_WITHIN_US
    told = child.ask("told")
    check_unique(told)
    heard_late, said_late = ages(told)
    print(
        f"{what}: the oldest frame came {heard_late / 1000:.0f} ms late to us, {said_late / 1000:.0f} ms there and back"
    )
    print(f"{what}: {next(iter(told.values()))['stats']}")


def stays_attached(child: Process) -> None:
    told = child.ask("told")
    assert set(reconnects(told)) == {0}
    assert {call["state"] for call in told.values()} == {"connected"}


def test_clients_move_and_nobody_attaches_again(stage: Stage) -> None:
    """Another port, then another address towards the relay (RFC 9000 §9): connections migrate."""
    child = stage.sdk()
    talking(child, BRIDGES, PART_S)
    for address in ("", "127.0.0.2"):
        moved = now_us()
        stage.sdk_side.rebind(address)
        back(child, moved, f"clients move to {address or 'another port'}")
        stays_attached(child)
    figures("the longest silence of each call", pauses(child.ask("told")))


@pytest.mark.parametrize("side", ["sdk", "engine"])
def test_two_seconds_without_a_packet(stage: Stage, side: str) -> None:
    child = stage.sdk()
    talking(child, BRIDGES, PART_S)
    proxy = stage.sdk_side if side == "sdk" else stage.engine_side
    passed, healed = proxy.cut_for(2.0)
    assert passed.both == 0
    back(child, healed, f"partition of 2 s on the {side}'s side")
    told = child.ask("told")
    assert max(ages(told, healed)) < STALE_US
    # As a rule none: the path is asked every 50 ms, and another link needs a handshake.
    print(f"moved to another session: {sum(call['migrations'] for call in told.values())}")


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [20.0, 60.0])
@pytest.mark.parametrize("side", ["sdk", "engine"])
def test_a_long_partition(stage: Stage, side: str, seconds: float) -> None:
    child = stage.sdk()
    sids = talking(child, BRIDGES, PART_S)
    proxy = stage.sdk_side if side == "sdk" else stage.engine_side
    proxy.tell("cut")
    speak_on(child, seconds)
    proxy.tell("heal")
    healed = now_us()
    back(child, healed, f"partition of {seconds:.0f} s on the {side}'s side")
    check_fresh(child.ask("told"), healed)
    assert child.ask("rows", sids=sids) == {sid: ["in_progress", None] for sid in sids}


@pytest.mark.parametrize("who", ["relay", "sdk"])
def test_a_process_stands_still_for_five_seconds(stage: Stage, who: str) -> None:
    """What the kernel kept for it meanwhile is not heard."""
    child = stage.sdk()
    sids = talking(child, BRIDGES, PART_S)
    process = stage.relay if who == "relay" else child
    process.stop()
    threading.Event().wait(5.0)
    process.go_on()
    woken = now_us()
    back(child, woken, f"{who} stopped for 5 s")
    assert max(ages(child.ask("told"), woken)) < STALE_US
    assert child.ask("rows", sids=sids) == {sid: ["in_progress", None] for sid in sids}


def test_the_relay_is_told_to_end_and_comes_back(stage: Stage) -> None:
    child = stage.sdk()
    sids = talking(child, BRIDGES, 45.0)
    told_us = now_us()
    stage.relay.terminate()
    print(f"the relay has ended {(now_us() - told_us) / 1000:.0f} ms after SIGTERM")
    child.ask("silent")
    restarted = now_us()
    stage.restart_relay()
    answers = now_us()
    print(f"the port answers {(answers - restarted) / 1000:.0f} ms after the start")
    back(child, answers, "relay told to end, and restarted")
    check_fresh(child.ask("told"), restarted)
    assert child.ask("hangup", sids=sids) == {sid: ["completed", "normal"] for sid in sids}


def test_another_address_of_the_whole_host(abroad: tuple[Stage, namespaces.Namespace]) -> None:
    stage, namespace = abroad
    child = stage.sdk()
    talking(child, BRIDGES, PART_S)
    moved = now_us()
    namespace.move(3)
    back(child, moved, "another address")
    stays_attached(child)
    figures("the longest silence of each call", pauses(child.ask("told")))


@pytest.mark.parametrize(
    "seconds",
    [2.0, pytest.param(20.0, marks=[pytest.mark.faults, pytest.mark.timeout(300)])],
)
def test_the_cable_is_pulled(abroad: tuple[Stage, namespaces.Namespace], seconds: float) -> None:
    stage, namespace = abroad
    child = stage.sdk()
    sids = talking(child, BRIDGES, PART_S)
    namespace.pull()
    speak_on(child, seconds)
    namespace.plug()
    healed = now_us()
    back(child, healed, f"cable out for {seconds:.0f} s")
    assert max(ages(child.ask("told"), healed)) < STALE_US
    assert child.ask("rows", sids=sids) == {sid: ["in_progress", None] for sid in sids}


def test_bad_weather_ends_no_session_and_doubles_no_frame(stage: Stage) -> None:
    child = stage.sdk()
    talking(child, BRIDGES, PART_S)
    weather = {"loss": 0.1, "burst": 3, "delay_us": 20_000, "jitter_us": 10_000, "duplicate": 0.05, "reorder": 0.05}
    stage.sdk_side.climate(**weather)
    counts = stage.sdk_side.tell("count")
    hear_more(child, 200)
    worse = stage.sdk_side.tell("count")
    for way in ("there", "back"):
        for what in ("lost", "duplicated", "reordered"):
            assert worse[way][what] > counts[way][what], (way, what)
    stage.sdk_side.climate()
    hear_more(child, 50)
    check_unique(child.ask("told"))
    stays_attached(child)
