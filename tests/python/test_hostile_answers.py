"""What the SDK makes of a control plane that answers anything: a valid outcome or a typed error, no panic, no hang.

Answers are sound ones that were spoiled, drawn from `SEED`, and bytes that are hardly HTTP.
"""

from __future__ import annotations

import copy
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import pytest
from hostile import SEED
from recorded import ROW, recorded, success

from clutchcall.cli import main
from clutchcall.errors import (
    APIConnectionError,
    APIStatusError,
    ClutchCallError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from clutchcall.types import Trunk, TrunkTest
from clutchcall.voice import Call, Voice

ROUNDS = 60
TRACK = {"namespace": ["voice", "CA1", "uplink"], "name": "audio"}
TOKEN = {
    "relay": {
        "url": "moqt://127.0.0.1:9",
        "webTransportUrl": "https://127.0.0.1:9/",
        "certificateHashes": ["0" * 64],
        "pool": 1,
    },
    "token": "t",
    "expiresInS": 60,
    "publish": TRACK,
    "subscribe": TRACK,
}
TRUNK = {
    "trunkId": "carrier",
    "displayName": None,
    "kind": "sip",
    "channelLimit": 10,
    "maxCps": 5,
    "activeCalls": 1,
    "waitingCalls": 0,
    "health": "healthy",
    "callerIds": ["+1"],
    "transferMode": "auto",
    "sip": {"transport": "udp", "sbcIp": "192.0.2.7", "proxy": None},
}
TESTED = {
    "trunkId": "carrier",
    "ok": False,
    "health": "down",
    "peer": "192.0.2.7:5060",
    "transport": "udp",
    "sipCode": 503,
    "sipPhrase": "Busy",
    "afterMs": 3,
    "registration": {"state": "failed", "sipCode": 403},
    "advice": "ask the carrier",
}
NEEDED = sorted(TRUNK.keys() - {"displayName", "waitingCalls", "sip"})
ASKS: dict[str, tuple[Any, Callable[[Voice, Call], object]]] = {
    "get": (json.loads(ROW), lambda voice, call: voice.calls.get("CA1")),
    "refresh": (json.loads(ROW), lambda voice, call: call.refresh()),
    "originate": (json.loads(ROW), lambda voice, call: voice.calls.originate("+1", from_="+2", trunk_id="t")),
    "list": ({"calls": [json.loads(ROW)], "cursor": "c"}, lambda voice, call: list(voice.calls.list())),
    "hangup": ({"ok": True}, lambda voice, call: call.hangup()),
    "transfer": ({"ok": True, "state": "pending"}, lambda voice, call: call.transfer("+1")),
    "agent": ({"ok": True}, lambda voice, call: voice.agents.attach("CA1", "echo")),
    "attach": (TOKEN, lambda voice, call: voice.audio_bridge.attach("CA1")),
    "attach with keys": (
        {**TOKEN, "control": {"namespace": ["voice", "CA1", "control"], "name": "events"}},
        lambda voice, call: voice.audio_bridge.attach("CA1", on_dtmf=print),
    ),
    "answer": ({"ok": True}, lambda voice, call: call.answer()),
    "reject": ({"ok": True}, lambda voice, call: call.reject()),
    "keys": ({"ok": True}, lambda voice, call: call.send_dtmf("1")),
    "agents": ({"agents": [{"id": "echo", "kind": "echo"}]}, lambda voice, call: voice.agents.list()),
    "trunks": ({"trunks": [TRUNK]}, lambda voice, call: [typed(Trunk, trunk) for trunk in voice.trunks.list()]),
    "trunk test": (TESTED, lambda voice, call: typed(TrunkTest, voice.trunks.test("carrier"))),
}
ODD: list[Any] = [None, True, 0, -1, 2**31, 2**63, 2**64, 10**40, 1.5, 1e308, "", "x" * 5000, "\0", "😀", [], {}, [[]]]
ODD += [["a"] * 1000, {"a": {"b": {}}}, "2026-13-45T99:99:99Z", "moqt://", "http://127.0.0.1:9", ["voice"] * 40]


def typed(shape: Any, value: Any) -> str:  # noqa: ANN401
    """The value has what its `TypedDict` promises, of the types that it promises."""
    for name, hint in get_type_hints(shape, include_extras=True).items():
        may_be_absent = get_origin(hint) is NotRequired
        if name in value:
            assert fits(value[name], get_args(hint)[0] if may_be_absent else hint), f"{name} is {value[name]!r}"
        else:
            assert may_be_absent, name
    return str(shape.__name__)


def fits(value: Any, hint: Any) -> bool:  # noqa: ANN401
    """Of this type, to the letter: a flag is no number."""
    if isinstance(hint, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) is list:
        return type(value) is list and all(fits(part, get_args(hint)[0]) for part in value)
    return type(value) is (get_origin(hint) or hint)


def spoil(value: Any, draw: random.Random) -> Any:  # noqa: ANN401
    """The same with one thing in it changed, dropped, added or wrapped."""
    spoiled = copy.deepcopy(value)
    places = list(_places(spoiled))
    holder, key = draw.choice(places) if places else ([spoiled], 0)
    what = draw.randrange(5)
    if what == 0 and isinstance(holder, dict):
        del holder[key]
    elif what == 1:
        holder[key] = [holder[key]] * draw.randrange(3)
    elif what == 2 and isinstance(holder, dict):
        holder[draw.choice(["error", "result", "data", "x", str(key).upper()])] = draw.choice(ODD)
    else:
        holder[key] = draw.choice(ODD)
    return spoiled


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def judged(act: Callable[[], Any]) -> None:
    """Nothing but a value or a typed error, whose words can be read."""
    try:
        outcome = act()
        words = repr(outcome)
        if hasattr(outcome, "close"):
            outcome._core.leave()
    except ClutchCallError as told:
        words = str(told)
    assert 0 < len(words) < 10_000


@pytest.mark.parametrize("ask", ASKS)
def test_spoiled_answers(ask: str, capfd: pytest.CaptureFixture[str]) -> None:
    sound, act = ASKS[ask]
    draw = random.Random(f"{SEED} {ask}")
    with recorded((200, success())) as there, Voice(there.url, "k", "o", max_retries=0, timeout=20) as voice:
        call = voice.calls.get("CA1")
        for turn in range(ROUNDS):
            envelope: Any = {"result": {"data": sound}}
            for _ in range(draw.randrange(1, 4)):
                envelope = spoil(envelope, draw)
            text = json.dumps(envelope)
            if turn % 7 == 0:
                text = text[: draw.randrange(len(text) + 1)]
            status = draw.choice((200, 200, 200, 201, 204, 400, 404, 500, 599))
            there.answers = [(status, "" if status == 204 else text)]
            try:
                judged(lambda: act(voice, call))
            except BaseException as error:
                raise AssertionError(f"seed {SEED}: {status} {text}") from error
    assert "panicked" not in capfd.readouterr().err


DEEP = '{"result":' * 5000
BYTES: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"\x15\x03\x01\x00\x02\x02\x28" * 10,
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status beyond all": b"HTTP/1.1 99999 X\r\n\r\n",
    "HTTP of another sort": b"HTTP/9.9 200 OK\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 40\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
    "a body that ends early": b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{",
    "a broken chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a chunk of all there is": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "a header without an end": b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000,
    "no UTF-8": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xfe\xfd",
    "no UTF-8 in a refusal": b"HTTP/1.1 500 X\r\ncontent-length: 3\r\n\r\n\xff\xfe\xfd",
    "gzip that is none": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "deep JSON": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(DEEP), DEEP.encode()),
    "a redirect to itself": b"HTTP/1.1 302 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
    "a wish to wait for ever": b"HTTP/1.1 503 X\r\nretry-after: 99999999999999999999\r\ncontent-length: 0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "continue and nothing": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@contextmanager
def bytes_of(answer: bytes, again: bool = False) -> Iterator[str]:
    """Says these bytes to whoever asks, then closes; or says them for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        connection.sendall(answer)
                        while again:
                            connection.sendall(b"x" * 65536)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(20)


@pytest.mark.parametrize("what", BYTES)
def test_bytes_that_are_hardly_an_answer(what: str) -> None:
    with bytes_of(BYTES[what]) as url, Voice(url, "k", "o", max_retries=1, timeout=5) as voice:
        for ask in ("get", "hangup", "attach", "trunks", "trunk test"):
            with pytest.raises((APIConnectionError, APIStatusError)) as told:
                ASKS[ask][1](voice, _call(voice))
            assert len(str(told.value)) < 10_000


def _call(voice: Voice) -> Call:
    class Row:
        sid = "CA1"

    return Call(voice._core, Row())  # type: ignore[arg-type]


SPOILED: dict[str, tuple[str, list[Any]]] = {
    "of trunks": (
        "trunks",
        [
            {},
            [],
            {"trunks": None},
            {"trunks": {"carrier": TRUNK}},
            {"trunks": ["carrier"]},
            {"trunks": [TRUNK, {}]},
            *({"trunks": [{**TRUNK, name: {"a": [1]}}]} for name in TRUNK),
            *({"trunks": [{key: value for key, value in TRUNK.items() if key != name}]} for name in NEEDED),
            {"trunks": [{**TRUNK, "maxCps": -1}]},
            {"trunks": [{**TRUNK, "activeCalls": 2**64}]},
            {"trunks": [{**TRUNK, "callerIds": ["+1", 2]}]},
        ],
    ),
    "of a test": (
        "trunk test",
        [
            "carrier",
            [TESTED],
            {"ok": True},
            *({**TESTED, name: ["x"]} for name in TESTED),
            *({**TESTED, name: 70_000} for name in ("sipCode", "advice", "ok")),
            {**TESTED, "registration": {"expiresInS": 7}},
        ],
    ),
}


@pytest.mark.parametrize("which", SPOILED)
def test_answers_about_trunks_of_another_shape_are_api_errors(which: str) -> None:
    ask, answers = SPOILED[which]
    with recorded((200, success())) as there, Voice(there.url, "k", "o", max_retries=0) as voice:
        for answer in answers:
            there.answers = [(200, success(json.dumps(answer)))]
            with pytest.raises(APIStatusError, match="really a ClutchCall engine"):
                ASKS[ask][1](voice, _call(voice))
        for status, kind in ((404, NotFoundError), (429, RateLimitError), (500, ServerError)):
            for body in ("", "no", '{"error":{"message":"no","code":-32000}}', '{"error":7}', "x" * 5_000_000):
                there.answers = [(status, body)]
                with pytest.raises(kind) as told:
                    ASKS[ask][1](voice, _call(voice))
                assert len(str(told.value)) < 10_000


def test_what_a_later_engine_says_of_trunks_takes_no_place_of_what_this_one_promises() -> None:
    later = {"later": {"aList": [1]}, "trunk_id": 7, "sip_code": "x", "_": 1}
    with recorded((200, success())) as there, Voice(there.url, "k", "o") as voice:
        there.answers = [(200, success(json.dumps({"trunks": [{**TRUNK, **later}]})))]
        (trunk,) = voice.trunks.list()
        typed(Trunk, trunk)
        assert (trunk["trunk_id"], trunk["later"]) == ("carrier", {"a_list": [1]})  # type: ignore[typeddict-item]
        there.answers = [(200, success(json.dumps({"trunkId": "t", "ok": True, "health": "down", **later})))]
        tested = voice.trunks.test("t")
        typed(TrunkTest, tested)
        assert (tested["trunk_id"], "sip_code" in tested) == ("t", False)


@pytest.mark.parametrize("words", [["list"], ["test", "carrier"], ["list", "--json"]])
def test_the_command_line_says_in_a_line_that_an_answer_is_none(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUTCHCALL_API_KEY", "k")
    monkeypatch.setenv("CLUTCHCALL_ORG_ID", "o")
    for answer in (success('{"trunks":[{}]}'), success("[]"), "no"):
        with recorded((200, answer)) as there:
            assert main(["trunks", *words, "--base-url", there.url]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1), told
        assert "really a ClutchCall engine" in told.err


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["with a length", "without one"],
)
def test_an_answer_without_an_end_is_bounded(head: bytes) -> None:
    with (
        bytes_of(head, again=True) as url,
        Voice(url, "k", "o", max_retries=0, timeout=20) as voice,
    ):
        for ask in ("get", "trunks"):
            with pytest.raises((APIConnectionError, APIStatusError), match=r"answer|larger|timeout"):
                ASKS[ask][1](voice, _call(voice))
