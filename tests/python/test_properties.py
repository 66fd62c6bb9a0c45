"""Hostile values for every argument of every public function: a typed error that names it, or a valid outcome.

Never anything else: no panic, no `OverflowError`, no hang (the run's time limit ends it with every stack).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import SEED, Odd, values
from listening import LIMIT_S, Heard, dial, until
from properties import TARGETS, Target
from scenes import Scene, scene

from clutchcall.engine import Engine
from clutchcall.errors import (
    BadRequestError,
    BridgeError,
    CallError,
    ClutchCallError,
    ConfigError,
    ConflictError,
    NotFoundError,
)
from clutchcall.moqt import MoqtClient
from clutchcall.relay import Relay

SURFACE = Path(__file__).with_name("surface.txt")
# Refusals of what was asked for as a whole, which no one argument brings about.
OF_THE_WHOLE = (NotFoundError, ConflictError, CallError)
# What a message may call an argument: it says the same to users of every language.
NAMES = {
    "from_": "from",
    "call_sid": "sid",
    "certificate_hashes": "certificate",
    "to": "to",
    "status": "status",
    "config": "config",
}
# `drop` of what a call left: nothing of it is to reach the next one.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("properties")) as there:
        yield there


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Relative paths lead to nothing of ours, what callbacks raise is nobody's business here, and no thread panics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    yield
    assert "panicked" not in capfd.readouterr().err


def callables() -> list[str]:
    lines = SURFACE.read_text(encoding="utf-8").splitlines()
    heads = [line.partition("def ")[2].partition("(")[0] for line in lines if "def " in line.partition("(")[0]]
    assert len(heads) > 100
    return heads


def test_every_public_callable_is_covered() -> None:
    assert set(TARGETS) == set(callables())


def test_every_argument_is_covered() -> None:
    for name, target in TARGETS.items():
        module, _, path = name.removeprefix("clutchcall.").partition(".")
        function: Any = importlib.import_module(f"clutchcall.{module}")
        for part in path.split("."):
            function = getattr(function, part)
        wanted = set(inspect.signature(function).parameters) - {"self", "cls"}
        made_here = path.endswith("__init__") and not target.kinds
        if not made_here and not path.endswith("exit__"):
            assert wanted == set(target.kinds) | ELSEWHERE.get(name, set()), name


# Tested below, with values of their own.
ELSEWHERE = {
    "clutchcall.engine.Engine.__init__": {"config"},
    "clutchcall.relay.Relay.__init__": {"certificate"},
}


def outcome(function: Any, arguments: dict[str, Any]) -> Any:  # noqa: ANN401
    """What it gives; what may be awaited is."""
    result = function(**arguments)
    if inspect.iscoroutine(result):

        async def awaited() -> Any:  # noqa: ANN401
            return await asyncio.wait_for(result, 60)

        result = asyncio.run(awaited())
    return result


def leave(result: Any) -> None:  # noqa: ANN401
    """Closes what a valid outcome opened."""
    if isinstance(result, (Engine, Relay, MoqtClient)):
        result.close()
    elif hasattr(result, "_core") and hasattr(result._core, "leave"):
        result._core.leave()
    elif hasattr(result, "hangup"):
        result._core.hangup(result.sid)


def verdict(function: Any, field: str, odd: Odd, arguments: dict[str, Any]) -> str | None:  # noqa: ANN401
    """What is wrong with what came of it, if anything is."""
    try:
        result = outcome(function, {**arguments, field: odd.value})
    except (StopIteration, StopAsyncIteration):
        return None
    except BridgeError:
        # It is closed, or speaks for the other side: so it says whatever it is given.
        return None
    except (TypeError, ValueError, ClutchCallError) as error:
        named = NAMES.get(field, field) in str(error)
        if isinstance(error, OF_THE_WHOLE):
            return f"{type(error).__name__}, where a TypeError belongs" if odd.wrong else None
        if isinstance(error, ClutchCallError) and not isinstance(error, (ConfigError, BadRequestError)):
            return None if not odd.wrong else f"{type(error).__name__}, where a TypeError belongs: {error}"
        return None if named else f"it is not named: {type(error).__name__}: {str(error)[:200]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    leave(result)
    return f"it was taken: {result!r}" if odd.wrong else None


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.kinds])
def test_hostile_arguments(there: Scene, name: str) -> None:
    target = TARGETS[name]
    wrong = []
    for function in target.of(there):
        for field, kind in target.kinds.items():
            for odd in values(kind):
                said = verdict(function, field, odd, target.right(there))
                if said is not None:
                    wrong.append(f"{field} = {odd}: {said}")
    assert wrong == [], "\n".join([f"seed {SEED}", *wrong])


@pytest.mark.parametrize("name", TARGETS)
def test_arguments_that_nobody_asked_for(there: Scene, name: str) -> None:
    for function in TARGETS[name].of(there):
        with pytest.raises(TypeError):
            outcome(function, {**TARGETS[name].right(there), "nobody_asked_for": 7})


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.kinds])
def test_calls_without_arguments_twice_over(there: Scene, name: str) -> None:
    """On live and closed objects, one call after the other: a valid outcome or a typed error each time."""
    for function in TARGETS[name].of(there):
        for _ in range(2):
            try:
                leave(outcome(function, {}))
            except (TypeError, ValueError, ClutchCallError, StopIteration, StopAsyncIteration):
                continue


def test_a_target_can_fail() -> None:
    """The judge knows a wrong outcome from a right one."""

    def takes_all(text: object) -> None: ...

    def unnamed(text: object) -> None:
        raise ValueError("no")

    def overflows(text: object) -> None:
        raise OverflowError("text")

    assert verdict(takes_all, "text", Odd(7, wrong=True), {}) is not None
    assert verdict(takes_all, "text", Odd("x"), {}) is None
    assert verdict(unnamed, "text", Odd("x"), {}) is not None
    assert verdict(overflows, "text", Odd("x"), {}) is not None
    assert Target("x", lambda scene: []).kinds == {}


def test_all_of_it_still_works(there: Scene) -> None:
    """After all that: audio both ways, on the same threads."""
    call, uplink, downlink, raw = dial(there.voice, "9030"), Heard(), Heard(), Heard()
    call.wait("in_progress", timeout=LIMIT_S)
    hashes = [there.relay.certificate_hash]
    with (
        there.voice.audio_bridge.attach(call.sid, on_uplink=uplink) as server,
        there.voice.audio_bridge.attach_caller(call.sid, on_downlink=downlink) as caller,
        MoqtClient.connect(f"moqt://{there.relay.address}", certificate_hashes=hashes) as client,
    ):
        track = client.publish_audio("voice/still/uplink", "audio")
        client.subscribe_audio("voice/still/uplink", "audio", raw)
        stamps = itertools.chain([0, 1, 2**31, 2**62 - 1, 2**62, 2**63 - 1], itertools.count(2**40, 20_000))

        def all_heard() -> bool:
            server.publish_downlink(b"down")
            caller.publish_uplink(b"up")
            track.write(next(stamps), b"raw")
            return min(len(heard.frames) for heard in (uplink, downlink, raw)) >= 10

        until(all_heard, "all three are heard")
    call.hangup()


CONFIGS: list[Any] = [7, 1.5, float("nan"), [], object(), {7: "x"}, {"state": object()}, {"limits": {"x": [7]}}]
CONFIGS += [
    {"api": 7},
    {"api": {"listen": "\0"}},
    {"state": 2**70},
    {"state": 10**5000},
    {"\ud800": 1},
    {"state": "\ud800"},
]
CONFIGS += [
    "no/such/file.toml",
    "\0",
    "\ud800",
    "/dev/null",
    {"state": "s", "keys": 7},
    {"state": float("inf")},
    {"": {}},
]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_hostile_configurations_of_an_engine(number: int) -> None:
    with pytest.raises((TypeError, ValueError, ConfigError)) as told:
        Engine(CONFIGS[number])
    assert str(told.value)


def test_a_configuration_that_holds_itself() -> None:
    config: dict[str, Any] = {}
    config["more"] = config
    with pytest.raises(ValueError, match="config nests deeper"):
        Engine(config)


@pytest.mark.parametrize(
    "pair", [7, "ab", b"ab", ("a",), ("a", "b", "c"), (7, 8), ("no/such", "file"), ("\0", "\ud800")]
)
def test_hostile_certificates_of_a_relay(tmp_path: Path, pair: Any) -> None:  # noqa: ANN401
    with pytest.raises((TypeError, ValueError, ConfigError), match=r"certificate|no/such"):
        Relay("127.0.0.1:0", open=True, certificate=pair, state=tmp_path)
