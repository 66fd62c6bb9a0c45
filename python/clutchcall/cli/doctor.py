"""`clutchcall doctor`: what could keep a call from working here, each with its remedy."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clutchcall.cli.terminal import FAILED, say

# What the media sockets ask for.
_SOCKET_BUFFER = 4 * 1024 * 1024
# A call needs a few; an engine with a thousand calls and their recordings needs these.
_OPEN_FILES = 4096
# Of one loopback call.
_FRAMES = 50
_CALL_LIMIT_S = 20.0


@dataclass
class Finding:
    """What one check found."""

    check: str
    verdict: str
    detail: str
    remedy: str | None = None


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine, with a call on loopback",
        description="Checks interpreter, wheel, libopus, socket buffers, file limit, certificate; makes a call on "
        "loopback.",
    )
    parser.add_argument("--certificate", metavar="PEM", help="check this certificate chain too")
    parser.add_argument("--json", action="store_true", help="the findings as a JSON array")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs every check; 1 when one of them fails."""
    findings = []
    for finding in _examine(arguments.certificate):
        findings.append(finding)
        if not arguments.json:
            say(f"{finding.verdict:5} {finding.check:12} {finding.detail}")
            if finding.remedy:
                say(f"      {'':12} → {finding.remedy}")
    if arguments.json:
        say(json.dumps([asdict(finding) for finding in findings]))
    return FAILED if any(finding.verdict == "fail" for finding in findings) else 0


def _examine(certificate: str | None) -> Iterator[Finding]:
    checks: dict[str, Callable[[], Finding]] = {
        "interpreter": _interpreter,
        "wheel": _wheel,
        "libopus": _opus,
        "UDP buffers": _socket_buffers,
        "open files": _open_files,
        "certificate": _minted_certificate if certificate is None else lambda: _certificate(certificate),
        "call": _loopback_call,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:
            yield Finding(name, "fail", f"{type(error).__name__}: {error}")


def _interpreter() -> Finding:
    version = f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}"
    if sys.implementation.name != "cpython":
        return Finding("interpreter", "fail", version, "use CPython 3.11 or newer")
    if sys.getswitchinterval() > 0.005:
        remedy = "sys.setswitchinterval(0.005): callbacks wait that long for a busy thread"
        return Finding("interpreter", "warn", f"{version}, switch interval {sys.getswitchinterval()} s", remedy)
    return Finding("interpreter", "ok", version)


def _wheel() -> Finding:
    from clutchcall import __version__, _core

    return Finding("wheel", "ok", f"clutchcall {__version__} ({Path(_core.__file__).name})")


def _opus() -> Finding:
    from clutchcall.media import opus_version

    version = opus_version()
    numbers = version.split()[-1].split("-")[0].split(".")
    if [int(number) for number in numbers[:2]] < [1, 5]:
        return Finding("libopus", "fail", version, "1.5 or newer is linked by the official wheel: install that")
    return Finding("libopus", "ok", version)


def _socket_buffers() -> Finding:
    limits = {}
    for name in ("rmem_max", "wmem_max"):
        file = Path("/proc/sys/net/core") / name
        if not file.exists():
            return Finding("UDP buffers", "warn", "the system's limits can't be read here")
        limits[name] = int(file.read_text())
    detail = ", ".join(f"{name} {value}" for name, value in limits.items())
    if min(limits.values()) < _SOCKET_BUFFER:
        settings = " ".join(f"net.core.{name}={_SOCKET_BUFFER}" for name in limits)
        remedy = f"sysctl -w {settings}: hundreds of bridges lose packets otherwise"
        return Finding("UDP buffers", "warn", detail, remedy)
    return Finding("UDP buffers", "ok", detail)


def _open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _OPEN_FILES and soft != resource.RLIM_INFINITY:
        return Finding(
            "open files", "warn", f"limit {soft} (hard {hard})", f"ulimit -n {_OPEN_FILES} before starting an engine"
        )
    return Finding("open files", "ok", f"limit {soft}")


def _minted_certificate() -> Finding:
    """What an engine on loopback shows: made for it, pinned by its hash."""
    import tempfile

    from clutchcall import _core
    from clutchcall.engine import Engine

    with tempfile.TemporaryDirectory(prefix="clutchcall-") as state, Engine(state=state):
        days = _core.certificate_days(str(Path(state) / "certificate.pem"))
    detail = f"self-minted for loopback, pinned by its hash, {days} days; --certificate checks another one"
    return Finding("certificate", "ok", detail)


def _certificate(path: str) -> Finding:
    from clutchcall import _core

    days = _core.certificate_days(path)
    if days < 0:
        return Finding("certificate", "fail", f"{path} ran out {-days} days ago", "renew it and start the relay again")
    verdict, remedy = ("warn", "renew it soon") if days < 14 else ("ok", None)
    return Finding("certificate", verdict, f"{path} is good for {days} days", remedy)


def _loopback_call() -> Finding:
    """A whole call: API, relay, a certificate minted and pinned, phone, both directions."""
    from clutchcall.engine import Engine
    from clutchcall.media import OpusEncoder
    from clutchcall.voice import Voice

    latencies: list[int] = []
    done = threading.Event()

    def heard(_frame: bytes, ts_us: int) -> None:
        latencies.append(time.monotonic_ns() // 1000 - ts_us)
        if len(latencies) >= _FRAMES:
            done.set()

    with Engine() as engine, Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        call = voice.calls.originate("+15550009012", from_="+15550000000", trunk_id="trunk_main")
        with voice.audio_bridge.attach(call.sid, on_uplink=heard) as bridge:
            call.wait("in_progress", timeout=_CALL_LIMIT_S)
            packet = OpusEncoder(48000, 1).encode(bytes(1920))
            # The phone echoes; a few frames more than are waited for, since it may pick up in their midst.
            for _ in range(2 * _FRAMES):
                bridge.publish_downlink(packet)
            if not done.wait(_CALL_LIMIT_S):
                stats = bridge.stats()
                detail = f"{len(latencies)} of {_FRAMES} frames came back ({bridge.state}, {stats})"
                return Finding("call", "fail", detail, "is UDP on loopback filtered on this machine?")
            call.hangup()
    latencies.sort()
    # As `clutchcall call` reads them.
    early = min(0, latencies[0])
    p50, p99 = (latencies[len(latencies) // 2] - early) / 1000, (latencies[-1] - early) / 1000
    return Finding(
        "call",
        "ok",
        f"loopback call with echo: {_FRAMES} frames, engine's socket to callback p50 {p50:.2f} ms, worst {p99:.2f} ms "
        "behind the quickest",
    )
