"""What the engine refuses, in every way the SDK can ask: wrong fields, wrong keys, somebody else's calls, nobody there.

Arguments that the SDK itself refuses are in `test_arguments`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from listening import FROM, LIMIT_S, dial

from clutchcall.engine import Engine
from clutchcall.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from clutchcall.voice import Call, Voice

KEYS = {"org_a": "the-key-of-org-a", "org_b": "the-key-of-org-b"}
READER = "a-key-of-org-a-that-only-reads"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Two organisations, one of which has a trunk of its own and a key that may only look."""
    keys: list[dict[str, object]] = [{"org": org, "key": key} for org, key in KEYS.items()]
    config = {
        "state": "state",
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [*keys, {"org": "org_a", "key": READER, "scopes": ["voice:calls.get"]}],
        "trunks": {"trunk_main": {"kind": "phone"}, "trunk_b": {"kind": "phone", "org": "org_b"}},
        "agents": {"echo": {"kind": "echo"}},
    }
    with Engine(config, state=tmp_path_factory.mktemp("orgs")) as engine:
        yield engine


@pytest.fixture
def a(engine: Engine) -> Voice:
    return Voice(engine.base_url, KEYS["org_a"], "org_a", max_retries=0)


@pytest.fixture
def b(engine: Engine) -> Voice:
    return Voice(engine.base_url, KEYS["org_b"], "org_b", max_retries=0)


def on_uplink(frame: bytes, ts_us: int) -> None:
    raise AssertionError("nobody may hear this")


def of(voice: Voice, call: Call) -> Call:
    """A call in the hands of another user, who knows its sid."""
    return Call(voice._core, call._row)


# Everything that can be asked about a call.
ABOUT_A_CALL: dict[str, Callable[[Voice, Call], object]] = {
    "get": lambda voice, call: voice.calls.get(sid=call.sid),
    "refresh": lambda voice, call: of(voice, call).refresh(),
    "wait": lambda voice, call: of(voice, call).wait(timeout=LIMIT_S),
    "transfer to": lambda voice, call: of(voice, call).transfer(to="+15557654321"),
    "transfer agent": lambda voice, call: of(voice, call).transfer(agent="echo"),
    "hangup": lambda voice, call: of(voice, call).hangup(),
    "agents.attach": lambda voice, call: voice.agents.attach(call.sid, "echo"),
    "attach": lambda voice, call: voice.audio_bridge.attach(call.sid, on_uplink=on_uplink),
    "attach_caller": lambda voice, call: voice.audio_bridge.attach_caller(call.sid, on_downlink=on_uplink),
}
ALL = ABOUT_A_CALL | {
    "originate": lambda voice, call: dial(voice, "9000"),
    "list": lambda voice, call: voice.calls.list(),
}
each = pytest.mark.parametrize("ask", ALL.values(), ids=ALL.keys())
each_about_a_call = pytest.mark.parametrize("ask", ABOUT_A_CALL.values(), ids=ABOUT_A_CALL.keys())
Ask = Callable[[Voice, Call], object]


@pytest.fixture(scope="module")
def call(engine: Engine) -> Iterator[Call]:
    """A call of `org_b`, which nobody else gets to touch."""
    call = dial(Voice(engine.base_url, KEYS["org_b"], "org_b"), "9010").wait("in_progress", timeout=LIMIT_S)
    yield call
    assert (call.refresh().status, call.agent, call.transferred_to) == ("in_progress", None, None)
    call.hangup()


NUMBERS = ["15551234567", "+0155512345", "+1", "+1555123456789012", "sip:alice@example.com", "+1 555 123 4567"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_wrong_number_is_named(a: Voice, number: str) -> None:
    placed = len(a.calls.list())
    ask: dict[str, Callable[[], object]] = {
        "to": lambda: a.calls.originate(to=number, from_=FROM, trunk_id="trunk_main"),
        "from": lambda: a.calls.originate(to=FROM, from_=number, trunk_id="trunk_main"),
    }
    for field, originate in ask.items():
        with pytest.raises(BadRequestError, match=rf"^{field} is .*{re.escape(number)}.*E\.164") as told:
            originate()
        assert (told.value.status, told.value.code, told.value.retryable) == (400, "BAD_REQUEST", False)
        assert told.value.request_id
    assert len(a.calls.list()) == placed, "nobody was called"


def test_a_wrong_transfer_or_cursor_is_named(b: Voice, call: Call) -> None:
    with pytest.raises(BadRequestError, match=r"^to is .*E\.164"):
        call.transfer("911")
    with pytest.raises(BadRequestError, match=r"^cursor is "):
        b.calls.list(cursor="the next one")


@each
def test_a_wrong_key(engine: Engine, call: Call, ask: Ask) -> None:
    with pytest.raises(AuthenticationError, match="check CLUTCHCALL_API_KEY") as told:
        ask(Voice(engine.base_url, "a-wrong-key", "org_b", max_retries=0), call)
    assert (told.value.status, told.value.code) == (401, "UNAUTHORIZED")


@each
def test_an_org_that_is_not_the_keys(engine: Engine, call: Call, ask: Ask) -> None:
    with pytest.raises(PermissionDeniedError, match='orgId "org_b" is not the API key\'s organisation') as told:
        ask(Voice(engine.base_url, KEYS["org_a"], "org_b", max_retries=0), call)
    assert (told.value.status, told.value.code) == (403, "FORBIDDEN")


@each
def test_a_key_that_only_reads(engine: Engine, call: Call, ask: Ask) -> None:
    voice = Voice(engine.base_url, READER, "org_a", max_retries=0)
    reads = ask in (ABOUT_A_CALL["get"], ABOUT_A_CALL["refresh"], ABOUT_A_CALL["wait"])
    with pytest.raises(NotFoundError if reads else PermissionDeniedError) as told:
        ask(voice, call)
    assert reads or "lacks the scope voice:" in str(told.value)


def said(error: APIStatusError, sid: str) -> tuple[object, ...]:
    """All that an error tells, but for what was asked with it."""

    def plain(text: str | None) -> str:
        return (text or "").replace(sid, "<sid>").replace(error.request_id or "", "<request>")

    return type(error), error.status, error.code, error.retryable, plain(str(error)), plain(error.body)


@each_about_a_call
def test_another_orgs_call_is_no_call(a: Voice, call: Call, ask: Ask) -> None:
    with pytest.raises(NotFoundError) as of_others:
        ask(a, call)
    gone = dial(a, "9003")
    unknown = "".join(reversed(gone.sid))
    with pytest.raises(NotFoundError) as of_nobody:
        ask(a, _named(gone, unknown))
    assert said(of_others.value, call.sid) == said(of_nobody.value, unknown)
    assert of_others.value.status == 404


def _named(call: Call, sid: str) -> Call:
    """The call with another sid, as a typing error makes one."""

    class Row:
        pass

    row = Row()
    row.sid = sid  # type: ignore[attr-defined]
    return Call(call._core, row)  # type: ignore[arg-type]


def test_another_orgs_trunk_is_no_trunk(a: Voice, b: Voice) -> None:
    texts = []
    for trunk in ("trunk_b", "trunk_x"):
        with pytest.raises(NotFoundError) as told:
            a.calls.originate(to="+15550009000", from_=FROM, trunk_id=trunk)
        texts.append(said(told.value, trunk))
    assert texts[0] == texts[1]
    b.calls.originate(to="+15550009000", from_=FROM, trunk_id="trunk_b").hangup()


def test_lists_hold_the_orgs_own_calls(a: Voice, b: Voice, call: Call) -> None:
    own = dial(a, "9000")
    assert own.sid in {row.sid for row in a.calls.list()}
    assert call.sid not in {row.sid for row in a.calls.list(limit=100)}
    assert own.sid not in {row.sid for row in b.calls.list(limit=100)}
    own.hangup()


@pytest.fixture(scope="module")
def dead() -> Voice:
    """A user of an engine that was there a moment ago."""
    with Engine() as engine:
        return Voice(engine.base_url, engine.api_key, engine.org_id, max_retries=0)


@each
def test_a_dead_engine(dead: Voice, call: Call, ask: Ask) -> None:
    with pytest.raises(APIConnectionError, match="clutchcall dev") as told:
        ask(dead, call)
    assert dead.base_url in str(told.value)
