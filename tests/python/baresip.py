"""A baresip of a test's own: a telephone of other people's making, told what to do over its control port."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import wave
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from listening import LIMIT_S, Samples, resampled
from ports import free_port

MODULES = Path("/usr/lib/baresip/modules")
SPEECH_HZ = 8000
# The phone's, without its plus.
NUMBER = "15550001234"
# What it may use of ours: an even port and the one above it.
RTP_PORTS = 19


class Baresip:
    """Says a recording to whoever talks with it, and keeps what it hears."""

    def __init__(self, folder: Path, codec: str, hz: int, speech: Samples) -> None:
        self.port = free_port()
        self.rtp_first = free_port()
        self._folder = folder
        self._buffer = b""
        self._keep(folder / "speech.wav", hz, 2 if codec == "opus" else 1, speech)
        control = free_port()
        clock = {"PCMU": "PCMU/8000/1", "PCMA": "PCMA/8000/1", "opus": "opus/48000/2"}[codec]
        account = f"<sip:{NUMBER}@127.0.0.1>;regint=0;answermode=manual;audio_codecs={clock}\n"
        (folder / "accounts").write_text(account)
        (folder / "config").write_text(self._config(hz, control))
        self._log = (folder / "log").open("wb")
        self._child = subprocess.Popen(
            ["baresip", "-f", str(folder), "-v"], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._control = self._connected(control)

    def _config(self, hz: int, control: int) -> str:
        loaded = "\n".join(f"module {name}.so" for name in ("g711", "opus", "aufile", "aubridge", "sndfile"))
        return f"""
sip_listen 127.0.0.1:{self.port}
net_interface 127.0.0.1
rtp_ports {self.rtp_first}-{self.rtp_first + RTP_PORTS}
audio_source aufile,{self._folder}/speech.wav
audio_player aubridge,nil
audio_alert aubridge,nil
ausrc_srate {hz}
auplay_srate {hz}
module_path {MODULES}
{loaded}
snd_path {self._folder}/
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""

    @staticmethod
    def _keep(path: Path, hz: int, channels: int, speech: Samples) -> None:
        samples = np.repeat(resampled(speech, SPEECH_HZ, hz), channels)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(hz)
            file.writeframes(samples.tobytes())

    def _connected(self, port: int) -> socket.socket:
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
            except OSError:
                assert self._child.poll() is None, self.said()
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.02)

    def said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def command(self, command: str, params: str = "") -> None:
        text = json.dumps({"command": command, "params": params}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))

    def wait(self, kind: str) -> dict[str, Any]:
        """Until an event of this kind is told; others before it are passed over."""
        while True:
            told = self._told()
            if told.get("event") and told["type"] == kind:
                return told

    def _told(self) -> dict[str, Any]:
        """One netstring."""
        while True:
            length, colon, rest = self._buffer.partition(b":")
            if colon and len(rest) > int(length):
                self._buffer = rest[int(length) + 1 :]
                told: dict[str, Any] = json.loads(rest[: int(length)])
                return told
            more = self._control.recv(65536)
            assert more, self.said()
            self._buffer += more

    def end(self) -> None:
        """Its recording is complete then."""
        self._control.close()
        self._child.terminate()
        try:
            self._child.wait(LIMIT_S)
        finally:
            self._child.kill()
            self._child.wait()
            self._log.close()

    def heard(self) -> Samples:
        """What its decoder gave out, of the first channel, at 8 kHz."""
        (path,) = self._folder.glob("dump-*-dec.wav")
        with wave.open(str(path)) as file:
            channels, hz = file.getnchannels(), file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")[::channels]
        return resampled(samples[: len(samples) // 6 * 6], hz, SPEECH_HZ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.said())
        self.end()
