"""Keys of a call, both ways, over a real SIP trunk and RTP, as both faces of the SDK hear and press them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from far_end import KEY, ORG, FarEnd, settings
from listening import FROM, LIMIT_S, Heard, dial, ended, until

from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed, BridgeError, ConflictError
from clutchcall.voice import AsyncVoice, Call, Dtmf, Voice

RTP_FROM = 24_000


class Keys:
    """A callback that keeps every key and can be waited on."""

    def __init__(self) -> None:
        self.keys: list[Dtmf] = []
        self.threads: set[str] = set()
        self._news = threading.Condition()

    def __call__(self, key: Dtmf) -> None:
        with self._news:
            self.keys.append(key)
            self.threads.add(threading.current_thread().name)
            self._news.notify_all()

    @property
    def digits(self) -> str:
        return "".join(key.digit for key in self.keys)

    def wait(self, count: int) -> list[Dtmf]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.keys) >= count, LIMIT_S), self.digits
            return list(self.keys)


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as far:
        yield far


@pytest.fixture
def engine(far: FarEnd, tmp_path: Path) -> Iterator[Engine]:
    with Engine(settings({"carrier": far.trunk(RTP_FROM)}), state=tmp_path) as engine:
        yield engine


@pytest.fixture
def voice(engine: Engine) -> Iterator[Voice]:
    with Voice(engine.base_url, KEY, ORG) as voice:
        yield voice


def call(voice: Voice, send_digits: str | None = None) -> Call:
    placed = voice.calls.originate("+15550001234", from_=FROM, trunk_id="carrier", send_digits=send_digits)
    return placed.wait("in_progress", timeout=LIMIT_S)


def test_each_key_of_the_caller_is_told_once(voice: Voice, far: FarEnd) -> None:
    heard, keys = Heard(), Keys()
    placed = call(voice)
    with voice.audio_bridge.attach(placed.sid, on_uplink=heard, on_dtmf=keys) as bridge:
        heard.wait(10)
        far.press("0123456789*#ABCD")
        told = keys.wait(16)
        assert keys.digits == "0123456789*#ABCD"
        assert {(key.duration_ms, key.source) for key in told} == {(100, "rfc4733")}
        stamps = [key.timestamp_us for key in told]
        assert stamps == sorted(stamps)
        assert heard.stamps[0] <= stamps[0] <= heard.stamps[-1] + 60_000_000, "one clock"
        assert "digit='0', duration_ms=100" in repr(told[0])
        stats = bridge.stats()
        assert (stats.keys, stats.keys_dropped, stats.callback_errors) == (16, 0, 0)
        assert threading.current_thread().name not in keys.threads
        # The end of the call ends it, and nothing else is heard.
        placed.hangup()
        ended(bridge)
    assert len(keys.keys) == 16


def test_callbacks_swap_in_mid_call_without_a_key_lost_or_told_twice(voice: Voice, far: FarEnd) -> None:
    heard, first, second, late = Heard(), Keys(), Keys(), Keys()
    with voice.audio_bridge.attach(call(voice).sid, on_uplink=heard) as bridge:
        heard.wait(10)
        far.press("1")
        bridge.on_dtmf(first)
        # Its subscription is under way: what is pressed until it stands is not told.
        until(lambda: bool(far.press("2") and first.keys), "a key")
        began = len(first.keys)
        assert set(first.digits) == {"2"}, "nothing of before"
        bridge.on_dtmf(second)
        far.press("34")
        until(lambda: (first.digits + second.digits).endswith("34"), "all of them")
        assert (first.digits + second.digits).count("3") == 1
        assert began >= 1
        bridge.on_dtmf(None)
        count = bridge.stats().keys
        far.press("5")
        heard.wait_more(10)
        bridge.on_dtmf(late)
        until(lambda: bool(far.press("6") and late.keys), "a key")
        assert "5" not in first.digits + second.digits + late.digits
        assert bridge.stats().keys > count
        bridge.on_dtmf(None)
        bridge.on_dtmf(None)


def test_a_callback_that_fails_or_is_slow_loses_only_what_does_not_fit(
    voice: Voice, far: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", failed.append)
    heard, entered, go_on, keys = Heard(), threading.Event(), threading.Event(), Keys()

    def slow(key: Dtmf) -> None:
        entered.set()
        go_on.wait(LIMIT_S)
        keys(key)
        if key.digit == "1":
            raise RuntimeError(key.digit)

    with voice.audio_bridge.attach(call(voice).sid, on_uplink=heard, on_dtmf=slow) as bridge:
        heard.wait(10)
        far.press("1")
        assert entered.wait(LIMIT_S)
        for n in range(10):
            far.press("2345678")
            until(lambda wanted=8 + 7 * n: bridge.stats().keys == wanted, lambda: str(bridge.stats()))  # type: ignore[misc]
        heard.wait_more(10)
        go_on.set()
        keys.wait(65)
        assert keys.digits == "1" + ("2345678" * 10)[-64:]
        stats = bridge.stats()
        assert (stats.keys_dropped, stats.callback_errors, stats.slow_callbacks >= 1) == (6, 1, True)
    assert len(failed) == 1
    assert bridge.stats().callback_errors == 1, "after the end, too"


def test_a_callback_of_keys_that_replaces_itself_is_counted_all_the_same(
    voice: Voice, far: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", failed.append)
    heard, keys = Heard(), Keys()

    def replaces(key: Dtmf) -> None:
        bridge.on_dtmf(keys)
        raise RuntimeError(key.digit)

    def ends(key: Dtmf) -> None:
        keys(key)
        if key.digit == "2":
            bridge.on_dtmf(None)
            raise RuntimeError(key.digit)

    with voice.audio_bridge.attach(call(voice).sid, on_uplink=heard) as bridge:
        heard.wait(10)
        bridge.on_dtmf(replaces)
        until(lambda: bool(far.press("1") and keys.keys), "a key")
        bridge.on_dtmf(ends)
        far.press("2")
        until(lambda: bridge.stats().callback_errors == 2, lambda: f"{keys.digits}, {bridge.stats()}")
        assert keys.digits.strip("1") == "2"
        far.press("3")
        heard.wait_more(10)
        assert "3" not in keys.digits
    assert len(failed) == 2


@pytest.mark.parametrize("how", ["closed", "hung up"])
def test_a_bridge_that_is_over_takes_no_callback_and_presses_no_key(voice: Voice, far: FarEnd, how: str) -> None:
    placed, heard, keys, states = call(voice), Heard(), Keys(), list[str]()
    with voice.audio_bridge.attach(placed.sid, on_uplink=heard, on_dtmf=keys) as bridge:
        heard.wait(10)
        bridge.on_dtmf(keys)
        bridge.close() if how == "closed" else placed.hangup()
        ended(bridge)
        why = "was closed" if how == "closed" else "the call ended"
        for again in (bridge.on_dtmf, bridge.on_uplink, bridge.on_uplink_batch):
            with pytest.raises(BridgeClosed, match=f"{why}.* any more"):
                again(print)
        with pytest.raises(BridgeClosed, match="no key can be pressed over it"):
            bridge.send_dtmf("1")
        with pytest.raises(TypeError, match="callback"):
            bridge.on_dtmf(7)  # type: ignore[arg-type]
        # What promises nothing goes on as before.
        bridge.on_dtmf(None)
        bridge.on_state(states.append)
        until(lambda: states == ["closed"], lambda: str(states))
        list(bridge.uplink())
        assert next(bridge.uplink(), None) is None
    placed.hangup()


def test_both_faces_hear_and_press(engine: Engine, far: FarEnd) -> None:
    keys = Keys()

    async def talk() -> None:
        async with AsyncVoice(engine.base_url, KEY, ORG) as voice:
            placed = await voice.calls.originate(
                "+15550001234", from_=FROM, trunk_id="carrier", send_digits="w9", max_duration_sec=60
            )
            bridge = await voice.audio_bridge.attach(placed.sid, on_dtmf=keys)
            async for _ in bridge.uplink():
                break
            far.press("7")
            await asyncio.to_thread(keys.wait, 1)
            await placed.send_dtmf("#", duration_ms=40)
            await bridge.send_dtmf("1", duration_ms=40)
            bridge.on_dtmf(None)
            await asyncio.to_thread(far.pressed, 3)
            await bridge.close()
            with pytest.raises(BridgeClosed):
                bridge.on_dtmf(keys)
            with pytest.raises(BridgeClosed):
                await bridge.send_dtmf("1")
            await placed.hangup()
            with pytest.raises(ConflictError, match="the call has ended"):
                await placed.send_dtmf("1")

    asyncio.run(talk())
    assert keys.digits == "7"
    assert far.pressed(3) == [("9", 160), ("#", 40), ("1", 40)]


def test_keys_are_pressed_for_the_far_end(voice: Voice, far: FarEnd) -> None:
    placed = call(voice, send_digits="42")
    assert far.pressed(2) == [("4", 160), ("2", 160)]
    placed.send_dtmf("0wA*")
    assert far.pressed(5)[2:] == [("0", 160), ("A", 160), ("*", 160)]
    for wrong in ("1 2", "x", "1,2", "1" * 65):
        with pytest.raises(ValueError, match="digits has") as error:
            placed.send_dtmf(wrong)
        assert "1 2" not in str(error.value), "digits may be a secret"
        with pytest.raises(ValueError, match="send_digits has"):
            call(voice, send_digits=wrong)
    for ms in (39, 4001, -1):
        with pytest.raises(ValueError, match="duration_ms"):
            placed.send_dtmf("1", duration_ms=ms)
    with voice.audio_bridge.attach(placed.sid) as bridge:
        bridge.send_dtmf("9")
        assert far.pressed(6)[5:] == [("9", 160)]
    placed.hangup()
    until(lambda: placed.refresh().stats is not None, "the record has its figures")
    stats = placed.stats
    assert stats is not None
    assert (stats.codec, placed.sip_call_id is None, placed.legs, placed.last_transfer) == ("PCMU", False, [], None)
    assert stats.packets_sent > 0
    assert stats.packets_received > 0


def test_who_stands_for_the_caller_is_not_told() -> None:
    with Engine(ring_ms=10) as dev, Voice(dev.base_url, dev.api_key, dev.org_id) as voice:
        placed = dial(voice, "9030")
        with voice.audio_bridge.attach_caller(placed.sid) as bridge, pytest.raises(BridgeError, match="attach"):
            bridge.on_dtmf(print)
        with pytest.raises(ConflictError, match="nobody hears keys"):
            placed.send_dtmf("1")
