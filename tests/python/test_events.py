"""Following a call: what the client asks an engine with events, without them, and one that comes and goes."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from listening import LIMIT_S, dial, until

from clutchcall.engine import Engine
from clutchcall.errors import CallError, NotFoundError, PermissionDeniedError
from clutchcall.types import CallStatus
from clutchcall.voice import AsyncVoice, Voice

WAY: list[CallStatus] = ["dialing", "ringing", "in_progress", "completed"]


def row(status: str) -> dict[str, object]:
    return {"sid": "CA1", "status": status, "to": "+1", "from": "+2", "startedAt": "2026-01-01T00:00:00.000Z"}


HELLO = "retry: 1000\nid: run.1\n\n"


def event(status: str, number: int) -> str:
    return f"event: call\nid: run.{number}\ndata: {json.dumps(row(status))}\n\n"


class Server:
    """Answers questions for events and for rows with what it was given, in turn, and keeps what it was asked."""

    def __init__(self, streams: list[str | int], rows: list[str | int]) -> None:
        self.streams, self.rows = streams, rows
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                procedure = self.path.partition("?")[0].rpartition("/")[2]
                outer.asked.append((procedure, self.headers["last-event-id"]))
                turn = outer.streams if procedure == "voice.calls.events" else outer.rows
                answer = turn.pop(0) if len(turn) > 1 else turn[0]
                status, kind, body = 200, "application/json", ""
                if isinstance(answer, int):
                    status, body = answer, json.dumps({"error": {"message": "no", "code": -1, "data": {}}})
                elif procedure == "voice.calls.events":
                    kind, body = "text/event-stream", answer
                else:
                    body = json.dumps({"result": {"data": row(answer)}})
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.voice = Voice(f"http://127.0.0.1:{self._http.server_address[1]}", "key", "org", max_retries=0)

    def followed(self) -> list[str]:
        self.rows.insert(0, "dialing")
        call = self.voice.calls.get("CA1")
        self.asked.clear()
        return [now.status for now in call.events()]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(LIMIT_S)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(*request.param)
    yield server
    server.close()


def streams(*given: str | int, rows: tuple[str | int, ...] = ("dialing",)) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [(list(given), list(rows))], indirect=True, ids=[""])


@streams(": hello\n\n" + "".join(event(status, number) for number, status in enumerate(WAY)))
def test_one_stream_tells_all(server: Server) -> None:
    assert server.followed() == WAY
    assert server.asked == [("voice.calls.events", None)]


@streams(
    event("dialing", 1) + event("ringing", 2), event("ringing", 3) + event("in_progress", 4), event("completed", 5)
)
def test_a_stream_that_broke_goes_on_behind_its_last_event(server: Server) -> None:
    assert server.followed() == WAY
    assert server.asked == [("voice.calls.events", after) for after in (None, "run.2", "run.4")]


@streams(event("dialing", 1), 503, event("completed", 2))
def test_an_engine_that_is_busy_is_asked_again(server: Server) -> None:
    assert server.followed() == ["dialing", "completed"]


@pytest.mark.parametrize("refusal", [404, 429])
def test_without_events_the_call_is_asked_for(refusal: int) -> None:
    server = Server([refusal], ["dialing", "dialing", "ringing", 503, "in_progress", "completed"])
    try:
        assert server.followed() == WAY
        assert [asked for asked, _ in server.asked].count("voice.calls.events") == 1
    finally:
        server.close()


@streams(404, rows=("dialing", 404))
def test_a_call_that_is_gone_ends_it_with_the_error(server: Server) -> None:
    call = server.voice.calls.get("CA1")
    events = call.events()
    with pytest.raises(NotFoundError):
        next(events)
    assert list(events) == []


@streams(event("dialing", 1), 403, rows=("dialing", 403))
def test_so_does_a_refusal_in_mid_call(server: Server) -> None:
    call = server.voice.calls.get("CA1")
    events = call.events()
    assert next(events).status == "dialing"
    with pytest.raises(PermissionDeniedError):
        next(events)


def waited(server: Server, status: CallStatus | None = None, timeout: float | None = LIMIT_S) -> str:
    server.rows.insert(0, "dialing")
    call = server.voice.calls.get("CA1")
    server.asked.clear()
    return call.wait(status, timeout).status


STREAM, ROW = "voice.calls.events", "voice.calls.get"


@streams(HELLO + event("ringing", 2) + event("in_progress", 3))
def test_a_wait_hears_of_it(server: Server) -> None:
    """It asks before it listens, and once more when it hears, so that nothing falls between."""
    assert waited(server, "in_progress") == "in_progress"
    assert server.asked.count((STREAM, None)) == 1
    assert [asked for asked, _ in server.asked][:2] == [ROW, STREAM]


@streams(HELLO, rows=("in_progress",))
def test_what_is_so_already_is_one_question(server: Server) -> None:
    call = server.voice.calls.get("CA1")
    server.asked.clear()
    assert call.wait("in_progress").status == "in_progress"
    assert server.asked == [(ROW, None)]


@streams(HELLO)
def test_a_wait_hears_until_its_time_is_over(server: Server) -> None:
    with pytest.raises(TimeoutError, match="was not ringing within 0"):
        waited(server, "ringing", timeout=0)
    assert server.asked == [(ROW, None)]
    with pytest.raises(TimeoutError, match="was not ringing"):
        waited(server, "ringing", timeout=0.3)


@streams(HELLO + event("ringing", 2), event("failed", 3))
def test_a_wait_goes_on_behind_a_stream_that_broke(server: Server) -> None:
    with pytest.raises(CallError, match="failed"):
        waited(server, "in_progress")
    assert [after for asked, after in server.asked if asked == STREAM] == [None, "run.2"]


@streams(HELLO, HELLO + "event: gap\nid: run.9\ndata: {}\n\n", rows=("dialing", "dialing", "completed"))
def test_where_rows_are_missing_the_call_is_asked_for(server: Server) -> None:
    assert waited(server) == "completed"


@streams(HELLO + "data: " + "x" * 100_000, rows=("dialing", "dialing", "dialing", "completed"))
def test_a_stream_that_cant_be_read_is_left_for_questions(server: Server) -> None:
    assert waited(server) == "completed"
    assert [asked for asked, _ in server.asked].count(STREAM) == 1


@pytest.mark.parametrize("refusal", [403, 404, 429])
def test_without_events_a_wait_asks_again_and_again(refusal: int) -> None:
    server = Server([refusal], ["dialing", "ringing", "dialing", "ringing", "in_progress"])
    try:
        assert waited(server, "in_progress") == "in_progress"
        assert [asked for asked, _ in server.asked].count(STREAM) == 1
        server.rows[:] = ["dialing", "dialing", "completed"]
        assert waited(server) == "completed"
        assert [asked for asked, _ in server.asked].count(STREAM) == 0, "a refusal is remembered"
    finally:
        server.close()


@streams(503, rows=("dialing", "dialing", "dialing", "completed"))
def test_an_engine_that_is_busy_is_asked_for_the_call_meanwhile(server: Server) -> None:
    assert waited(server) == "completed"


def figure(engine: Engine, name: str) -> int:
    with urllib.request.urlopen(f"{engine.base_url}/metrics", timeout=LIMIT_S) as answer:
        found = re.search(rf"^{name} (\d+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_waits_share_one_stream_which_goes_when_nobody_waits(engine: Engine) -> None:
    until(lambda: figure(engine, "clutchcall_event_streams") == 0, "nobody else listens")
    with Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        calls = [dial(voice, "9000") for _ in range(20)]
        waits = [threading.Thread(target=call.wait) for call in calls]
        for wait in waits:
            wait.start()
        until(lambda: figure(engine, "clutchcall_event_streams") == 1, "they listen")
        asked = figure(engine, "clutchcall_api_requests_total")
        # Meanwhile somebody is called, speaks and hangs up; who polls asks a hundred times.
        dial(voice, "9013").wait(timeout=LIMIT_S)
        assert figure(engine, "clutchcall_event_streams") == 1
        for call in calls:
            call.hangup()
        for wait in waits:
            wait.join(LIMIT_S)
        assert [call.status for call in calls] == ["failed"] * len(calls)
        # At most two questions and a hang-up each.
        assert figure(engine, "clutchcall_api_requests_total") - asked <= 3 * len(calls) + 4
        until(lambda: figure(engine, "clutchcall_event_streams") == 0, "nobody listens any more")


def test_a_loop_waits_with_others(engine: Engine) -> None:
    async def run() -> list[str]:
        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as voice:
            calls = [
                await voice.calls.originate(to="+15550009011", from_="+15550000000", trunk_id="trunk_main")
                for _ in range(5)
            ]
            await asyncio.gather(*(call.wait("in_progress", LIMIT_S) for call in calls))
            over = asyncio.gather(*(call.wait(timeout=LIMIT_S) for call in calls))
            given_up = asyncio.ensure_future(calls[0].wait("completed"))
            await asyncio.sleep(0)
            given_up.cancel()
            for call in calls:
                await call.hangup()
            return [call.status for call in await over]

    assert asyncio.run(run()) == ["completed"] * 5


def test_the_engine_tells_every_change(voice: Voice) -> None:
    for ending, way in (("9013", WAY), ("9486", ["dialing", "failed"])):
        told = [now.status for now in dial(voice, ending).events()]
        assert told == way[-len(told) :]
        assert len(told) >= 2 or ending == "9486"


def test_an_iteration_that_is_given_up_ends_its_stream(voice: Voice) -> None:
    """More than an engine lets anybody have at once."""
    call = dial(voice, "9000")
    for _ in range(300):
        events = call.events()
        assert next(events).status in WAY
        del events
    call.hangup()
