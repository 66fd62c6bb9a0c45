"""`clutchcall call NUMBER`: one call, followed and heard from the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clutchcall.cli import wavfile
from clutchcall.cli.phone import NUMBERS
from clutchcall.cli.terminal import FAILED, INTERRUPTED, NO_ENGINE, LiveLine, Stop, complain, say
from clutchcall.errors import APIConnectionError, CallError, ConfigError

if TYPE_CHECKING:
    from clutchcall.voice import AudioBridge, BridgeStats, Call, Voice

_EPILOG = f"""\
{NUMBERS}
Exit status: 0 the call was answered, 1 it ended otherwise, 2 wrong arguments or settings, 3 no engine.
"""
# How often the live line looks again.
_LOOK_S = 0.25
# Audio handed over ahead of its time; the bridge holds 60 s.
_AHEAD_MS = 30_000
# A call that plays and records nothing is held this long.
_HOLD_S = 10.0


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "call",
        help="place a call, play to it, record it",
        description="Places a call and follows it to its end. Without an engine to talk to (--base-url, "
        "CLUTCHCALL_BASE_URL, a running `clutchcall dev`) one is started for this call alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("number", help="whom to call, E.164; with the simulated phone the last digits say what it does")
    parser.add_argument("--play", metavar="WAV", help="say this to the caller (8, 16, 24 or 48 kHz, mono)")
    parser.add_argument("--record", metavar="WAV", help="write what the caller says")
    parser.add_argument("--from", dest="from_", default="+15558675309", metavar="NUMBER", help="default: %(default)s")
    parser.add_argument("--trunk", default="trunk_main", metavar="ID", help="default: %(default)s")
    parser.add_argument("--agent", metavar="ID", help="bind this agent on answer instead of speaking from here")
    parser.add_argument("--ring-timeout", type=float, default=30, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="hang up this long after the answer")
    parser.add_argument("--base-url", help="engine to ask")
    parser.add_argument("--phone-says", metavar="WAV", help="what the phone of an engine started for this call says")
    parser.add_argument("--phone-records", metavar="DIR", help="where that phone puts what it hears")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Places the call; the exit status says how it went."""
    frames = wavfile.opus_frames(arguments.play) if arguments.play else []
    stop = Stop()
    try:
        with _voice(arguments) as voice:
            call = voice.calls.originate(
                arguments.number,
                from_=arguments.from_,
                trunk_id=arguments.trunk,
                agent=arguments.agent,
                ring_timeout_sec=arguments.ring_timeout,
            )
            heard = _Heard()
            # An agent is the call's speaker, so there is nothing to attach.
            bridge = None if arguments.agent else voice.audio_bridge.attach(call.sid, on_uplink=heard.take)
            try:
                _follow(call, bridge, _Plan(frames, arguments.seconds, arguments.agent), heard, stop)
            finally:
                call.hangup()
            return _finish(arguments, _ended(call), bridge, heard, stop)
    except APIConnectionError as error:
        complain(str(error))
        return NO_ENGINE


@dataclass
class _Heard:
    """What the caller said, and how long each frame was on its way."""

    frames: list[bytes] = field(default_factory=list)
    latencies_us: list[int] = field(default_factory=list)
    last_us: int | None = None
    gaps: int = 0
    """Frame times that no frame covers."""

    def take(self, frame: bytes, ts_us: int) -> None:
        self.latencies_us.append(time.monotonic_ns() // 1000 - ts_us)
        self.frames.append(frame)
        if self.last_us is not None:
            self.gaps += max(0, round((ts_us - self.last_us) / 20_000) - 1)
        self.last_us = ts_us


@dataclass
class _Plan:
    """What is said, and when it is enough."""

    frames: list[bytes]
    seconds: float | None
    agent: str | None
    said: int = 0

    def speak(self, bridge: AudioBridge) -> None:
        """Hands over what comes next, some seconds ahead of its time."""
        while self.said < len(self.frames) and bridge.queued_ms < _AHEAD_MS:
            bridge.publish_downlink(self.frames[self.said])
            self.said += 1

    def is_done(self, bridge: AudioBridge | None, answered_s: float) -> bool:
        if self.seconds is not None:
            return answered_s >= self.seconds
        if self.frames and bridge is not None:
            return self.said == len(self.frames) and bridge.queued_ms == 0
        return answered_s >= _HOLD_S


@contextlib.contextmanager
def _voice(arguments: argparse.Namespace) -> Iterator[Voice]:
    from clutchcall.engine import Engine
    from clutchcall.voice import Voice

    try:
        found = Voice(base_url=arguments.base_url)
    except ConfigError:
        # Somebody who names an engine wants that one.
        if arguments.base_url or os.environ.get("CLUTCHCALL_BASE_URL"):
            raise
    else:
        if arguments.phone_says or arguments.phone_records:
            complain("--phone-says and --phone-records are the running engine's own settings: left out")
        with found:
            yield found
        return
    with contextlib.ExitStack() as stack:
        records = arguments.phone_records or stack.enter_context(tempfile.TemporaryDirectory(prefix="clutchcall-"))
        engine = stack.enter_context(Engine(clip=arguments.phone_says, record=records))
        if not arguments.json:
            say(f"engine     {engine.base_url} (started for this call)")
            say(f"relay      {engine.relay_url}")
        yield stack.enter_context(Voice(engine.base_url, engine.api_key, engine.org_id))


def _follow(call: Call, bridge: AudioBridge | None, plan: _Plan, heard: _Heard, stop: Stop) -> None:
    """Until the call ends, the plan is done, or somebody wants to stop."""
    line, answered = LiveLine(), None
    try:
        while not stop.is_set():
            call.refresh()
            if call.status in ("completed", "failed", "no_answer"):
                break
            if call.status == "in_progress":
                answered = time.monotonic() if answered is None else answered
                if bridge is not None:
                    plan.speak(bridge)
            line.show(_status(call, bridge, heard, answered), call.status)
            if answered is not None and plan.is_done(bridge, time.monotonic() - answered):
                break
            stop.wait(_LOOK_S)
    finally:
        line.end()


def _status(call: Call, bridge: AudioBridge | None, heard: _Heard, answered: float | None) -> str:
    text = f"{call.sid}  {call.from_} → {call.to}  {call.status}"
    if answered is None or bridge is None:
        return text
    said = bridge.stats().frames_out
    return f"{text}  {time.monotonic() - answered:4.1f} s  heard {len(heard.frames)}  said {said}  gaps {heard.gaps}"


def _ended(call: Call) -> Call:
    with contextlib.suppress(CallError):
        call.wait(timeout=20)
    return call


def _finish(arguments: argparse.Namespace, call: Call, bridge: AudioBridge | None, heard: _Heard, stop: Stop) -> int:
    stats = bridge.stats() if bridge is not None else None
    if bridge is not None:
        bridge.close()
    if arguments.record:
        wavfile.write_opus(arguments.record, heard.frames)
    report = _report(call, stats, heard)
    if arguments.json:
        say(json.dumps(report))
    else:
        _print(report, arguments)
    if stop.is_set():
        return INTERRUPTED
    return 0 if call.status == "completed" else FAILED


def _report(call: Call, stats: BridgeStats | None, heard: _Heard) -> dict[str, Any]:
    latencies = sorted(heard.latencies_us)
    # Stamps go by the phone's clock from its first frame on. If that one was late on its way, the others seem to come
    # before they were said: the quickest then counts as having taken no time.
    early = min([0, *latencies[:1]])
    latencies = [latency - early for latency in latencies]
    return {
        "sid": call.sid,
        "status": call.status,
        "end_reason": call.end_reason,
        "sip_code": call.sip_code,
        "codec": "opus 48000 Hz mono 20 ms" if stats is not None else None,
        "frames_heard": len(heard.frames),
        "frames_said": stats.frames_out if stats is not None else 0,
        "gaps": heard.gaps,
        "latency_p50_us": _percentile(latencies, 50),
        "latency_p99_us": _percentile(latencies, 99),
    }


def _percentile(values: list[int], percent: int) -> int | None:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def _print(report: dict[str, Any], arguments: argparse.Namespace) -> None:
    code = f", SIP {report['sip_code']}" if report["sip_code"] else ""
    say(f"ended      {report['status']}: {report['end_reason']}{code}")
    if report["codec"] is not None:
        say(f"codec      {report['codec']}")
        say(f"frames     heard {report['frames_heard']}, said {report['frames_said']}, gaps {report['gaps']}")
    if report["latency_p50_us"] is not None:
        p50, p99 = report["latency_p50_us"] / 1000, report["latency_p99_us"] / 1000
        say(f"latency    engine's socket to callback, behind the quickest frame: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if arguments.record:
        say(f"recorded   {Path(arguments.record).resolve()}")
    if arguments.phone_records:
        say(f"the phone  {Path(arguments.phone_records).resolve() / report['sid']}.wav holds what it heard")
