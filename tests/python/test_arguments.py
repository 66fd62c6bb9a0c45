"""Wrong arguments are refused before anything is sent, and the message names the field and the choices."""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clutchcall import media
from clutchcall.errors import ConfigError
from clutchcall.moqt import MoqtClient
from clutchcall.types import AudioBuffer
from clutchcall.voice import Voice

# Nothing listens there: whatever is sent is an APIConnectionError, which no case here expects.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def voice() -> Voice:
    return Voice(NOWHERE, "key", "org", max_retries=0)


def attach(voice: Voice, **more: Any) -> object:  # noqa: ANN401
    return voice.audio_bridge.attach(**{"call_sid": "CA1", "on_uplink": print, **more})


def originate(voice: Voice, **more: Any) -> object:  # noqa: ANN401
    return voice.calls.originate(**{"to": "+1", "from_": "+2", "trunk_id": "t", **more})


class Awaited:
    """What only a loop could call."""

    async def __call__(self, *arguments: object) -> None: ...

    @staticmethod
    async def key(*arguments: object) -> None: ...


CASES: list[tuple[Callable[[Voice], object], type[Exception], list[str]]] = [
    (lambda v: originate(v, to=""), ValueError, ["to"]),
    (lambda v: originate(v, to=15551234567), TypeError, ["to"]),
    (lambda v: originate(v, from_=None), TypeError, ["from_"]),
    (lambda v: originate(v, trunk_id="a\nb"), ValueError, ["trunk_id"]),
    (lambda v: originate(v, agent=""), ValueError, ["agent"]),
    (lambda v: originate(v, agent=1), TypeError, ["agent"]),
    (lambda v: originate(v, ring_timeout_sec="30"), TypeError, ["ring_timeout_sec"]),
    (lambda v: originate(v, ring_timeout_sec=float("inf")), ValueError, ["ring_timeout_sec", "5..120"]),
    (lambda v: originate(v, max_duration_sec="60"), TypeError, ["max_duration_sec"]),
    (lambda v: originate(v, max_duration_sec=0), ValueError, ["max_duration_sec", "86400"]),
    (lambda v: originate(v, max_duration_sec=float("nan")), ValueError, ["max_duration_sec"]),
    (lambda v: originate(v, idempotency_key="ü"), ValueError, ["idempotency_key"]),
    (lambda v: originate(v, metadata="order=7"), TypeError, ["metadata", "dict"]),
    (lambda v: originate(v, metadata={"order": 7}), TypeError, ["metadata['order']", "int"]),
    (lambda v: originate(v, metadata={1: "x"}), TypeError, ["metadata", "int"]),
    (lambda v: originate(v, metadata={"": "x"}), ValueError, ["metadata"]),
    (lambda v: originate(v, metadata={str(n): "" for n in range(33)}), ValueError, ["metadata", "32"]),
    (lambda v: originate(v, send_digits=1), TypeError, ["send_digits"]),
    (lambda v: originate(v, send_digits="+1"), ValueError, ["send_digits", "0-9"]),
    (lambda v: v.trunks.test(""), ValueError, ["trunk_id"]),
    (lambda v: attach(v, on_dtmf=3), TypeError, ["on_dtmf", "Dtmf"]),
    (lambda v: attach(v, on_dtmf=Awaited.key), TypeError, ["on_dtmf", "coroutine"]),
    (lambda v: attach(v, on_dtmf=Awaited()), TypeError, ["on_dtmf", "coroutine"]),
    (lambda v: attach(v, on_uplink=Awaited().__call__), TypeError, ["on_uplink", "coroutine"]),
    (lambda v: attach(v, on_uplink=partial(Awaited.key, 1)), TypeError, ["on_uplink", "coroutine"]),
    (lambda v: attach(v, on_uplink=None, on_uplink_batch=partial(Awaited())), TypeError, ["on_uplink_batch"]),
    (lambda v: originate(v, headers=[("X-A", "1")]), TypeError, ["headers", "dict"]),
    (lambda v: originate(v, headers={"X-A": 1}), TypeError, ["headers['X-A']", "int"]),
    (lambda v: originate(v, headers={"From": "me"}), ValueError, ["headers", "From", "X-"]),
    (lambda v: originate(v, headers={"X-A": "1\r\nFrom: me"}), ValueError, ["headers", "X-A"]),
    (lambda v: originate(v, caller_name=7), TypeError, ["caller_name", "int"]),
    (lambda v: originate(v, caller_name="a\nb"), ValueError, ["caller_name"]),
    (lambda v: originate(v, caller_name="n" * 65), ValueError, ["caller_name", "64"]),
    (lambda v: v.calls.get(sid=""), ValueError, ["sid"]),
    (lambda v: v.calls.get(sid=None), TypeError, ["sid"]),  # type: ignore[arg-type]
    (lambda v: v.calls.list(limit=0), ValueError, ["limit", "500"]),
    (lambda v: v.calls.list(status="busy"), ValueError, ["status", "no_answer"]),  # type: ignore[arg-type]
    (lambda v: v.agents.attach("CA1", ""), ValueError, ["agent"]),
    (lambda v: attach(v, call_sid=""), ValueError, ["sid"]),
    (lambda v: attach(v, on_uplink=3), TypeError, ["on_uplink", "callable"]),
    (lambda v: attach(v, on_uplink=None, on_uplink_batch="x"), TypeError, ["on_uplink_batch", "list of Frame"]),
    (lambda v: Voice(NOWHERE, "k", "o", profile=1), TypeError, ["profile"]),  # type: ignore[arg-type]
    (lambda v: attach(v, codec="flac"), ValueError, ["codec", "opus, pcm16, g711_ulaw, g711_alaw"]),
    (lambda v: attach(v, sample_rate=44100), ValueError, ["sample_rate", "8000, 12000, 16000, 24000, 48000"]),
    (lambda v: attach(v, codec="g711_ulaw", sample_rate=16000), ValueError, ["sample_rate", "8000"]),
    (lambda v: attach(v, sample_rate=-1), ValueError, ["sample_rate"]),
    (lambda v: attach(v, sample_rate="48000"), TypeError, ["sample_rate"]),
    (lambda v: attach(v, channels=3), ValueError, ["channels", "1, 2"]),
    (lambda v: attach(v, frame_ms=25), ValueError, ["frame_ms", "10, 20, 40, 60"]),
    (lambda v: attach(v, delivery="carrier pigeon"), ValueError, ["delivery", "stream", "datagram"]),
    (lambda v: v.audio_bridge.attach_caller("CA1", on_downlink=3), TypeError, ["on_downlink"]),  # type: ignore[arg-type]
    (lambda v: MoqtClient.connect("http://h"), ValueError, ["url", "moqt"]),
    (lambda v: MoqtClient.connect("moqt://h", certificate_hashes=["00"]), ValueError, ["certificate"]),
    (lambda v: MoqtClient.connect("moqt://h", on_state=1), TypeError, ["on_state"]),  # type: ignore[arg-type]
    (lambda v: Voice(NOWHERE, "k", "o", timeout=0), ValueError, ["timeout"]),
    (lambda v: Voice(NOWHERE, "k", "o", pool=0), ValueError, ["pool", "32"]),
    (lambda v: Voice(NOWHERE, "k", "o", pool=33), ValueError, ["pool", "32"]),
    (lambda v: Voice(NOWHERE, "k", "o", pool="many"), TypeError, ["pool"]),  # type: ignore[arg-type]
    (lambda v: Voice(NOWHERE, "k", "o", max_retries=-1), ValueError, ["max_retries"]),
    (lambda v: Voice("h:80", "k", "o"), ConfigError, ["base_url"]),
    (lambda v: Voice(NOWHERE, "k", ""), ConfigError, ["org_id", "CLUTCHCALL_ORG_ID"]),
    (lambda v: media.OpusEncoder(44100), ValueError, ["sample_rate"]),
    (lambda v: media.OpusEncoder().encode(bytes(100)), ValueError, ["pcm", "10, 20, 40 or 60"]),
    (lambda v: media.OpusDecoder().decode(None, lost_ms=7), ValueError, ["lost_ms"]),
    (lambda v: media.OpusDecoder().decode(b""), ValueError, []),
    (lambda v: media.encode_ulaw(b"123"), ValueError, ["pcm", "even"]),
    (lambda v: media.decode_alaw("text"), TypeError, ["data", "str"]),  # type: ignore[arg-type]
    (lambda v: media.decode_alaw(array.array("f", [1.0])), TypeError, ["data"]),
    (lambda v: media.decode_alaw(memoryview(b"123456")[::2]), TypeError, ["contiguous"]),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_refused_before_any_io(voice: Voice, case: int) -> None:
    act, error, words = CASES[case]
    with pytest.raises(error) as caught:
        act(voice)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BASE_URL", "API_KEY", "ORG_ID", "CREDENTIALS"):
        monkeypatch.delenv(f"CLUTCHCALL_{name}", raising=False)
    monkeypatch.setenv("CLUTCHCALL_STATE_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="CLUTCHCALL_BASE_URL"):
        Voice()


def test_the_key_is_never_shown(voice: Voice) -> None:
    secret = Voice(NOWHERE, "tqs_live_secret", "org")
    assert "secret" not in repr(secret) + repr(secret.calls) + repr(secret.audio_bridge) + repr(secret.agents)


@pytest.mark.parametrize(
    "pcm",
    [b"\x01\x02" * 80, bytearray(b"\x01\x02" * 80), memoryview(b"\x01\x02" * 80), array.array("h", [0x0201] * 80)],
    ids=["bytes", "bytearray", "memoryview", "int16"],
)
def test_any_buffer_of_audio_will_do(pcm: AudioBuffer) -> None:
    assert media.encode_ulaw(pcm) == media.encode_ulaw(b"\x01\x02" * 80)


def test_codecs_alone() -> None:
    import numpy as np

    tone = (8000 * np.sin(np.arange(9600) * 2 * np.pi * 440 / 48000)).astype(np.int16)
    encoder, decoder = media.OpusEncoder(), media.OpusDecoder()
    decoded = b"".join(decoder.decode(encoder.encode(part)) for part in tone.reshape(-1, 960))
    heard = np.frombuffer(decoded, np.int16)
    delay = encoder.lookahead
    correlation = np.corrcoef(heard[4800 + delay :], tone[4800 : len(tone) - delay])[0, 1]
    assert len(heard) == len(tone)
    assert correlation > 0.9
    assert len(decoder.decode(None)) == 1920
    for encode, decode in ((media.encode_ulaw, media.decode_ulaw), (media.encode_alaw, media.decode_alaw)):
        back = np.frombuffer(decode(encode(tone)), np.int16)
        assert np.max(np.abs(back.astype(int) - tone)) <= 8000 / 16
    assert media.opus_version().startswith("libopus 1.")
