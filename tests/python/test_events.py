"""Following a call: what the client asks an engine with events, without them, and one that comes and goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from listening import LIMIT_S, dial

from clutchcall.errors import NotFoundError, PermissionDeniedError
from clutchcall.types import CallStatus
from clutchcall.voice import Voice

WAY: list[CallStatus] = ["dialing", "ringing", "in_progress", "completed"]


def row(status: str) -> dict[str, object]:
    return {"sid": "CA1", "status": status, "to": "+1", "from": "+2", "startedAt": "2026-01-01T00:00:00.000Z"}


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
