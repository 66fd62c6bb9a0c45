"""Calls and their audio: `Voice`, `Call`, `AudioBridge`, and the same for an event loop: `AsyncVoice`.

```python
from clutchcall.voice import Voice

with Voice() as v:
    call = v.calls.originate(to="+15551234567", from_="+15558675309", trunk_id="trunk_main")
    with v.audio_bridge.attach(call.sid, on_uplink=lambda frame, ts_us: ...) as bridge:
        call.wait(status="completed")
```

```python
from clutchcall.voice import AsyncVoice

async with AsyncVoice() as v:
    call = await v.calls.originate(to="+15551234567", from_="+15558675309", trunk_id="trunk_main")
    async with await v.audio_bridge.attach(call.sid) as bridge:
        async for frame in bridge.uplink():
            bridge.publish_downlink(frame.data)
```

A method of `Voice` that asks the control plane waits in the calling thread without holding the interpreter lock,
ends at Ctrl-C, and raises the classes of `clutchcall.errors`; its twin of `AsyncVoice` is awaited and does the same.
Wrong arguments raise `ValueError` or `TypeError` before anything is sent.

Numbers are E.164; SIP codes are those of RFC 3261 §21, causes those of ITU-T Q.850. Frames travel as objects of MoQT
(draft-ietf-moq-transport), with the stamps of draft-ietf-moq-loc.
"""

from __future__ import annotations

from clutchcall._core import Agent, BridgeStats, CallLeg, CallStats, CallTransfer, Dtmf, Frame
from clutchcall.voice._async import (
    AsyncAgents,
    AsyncAudioBridge,
    AsyncAudioBridges,
    AsyncCall,
    AsyncCallEvents,
    AsyncCallPage,
    AsyncCalls,
    AsyncFrames,
    AsyncTrunks,
    AsyncVoice,
)
from clutchcall.voice._bridges import AudioBridge, AudioBridges, Frames
from clutchcall.voice._calls import Call, CallEvents, CallPage, Calls
from clutchcall.voice._trunks import Trunks
from clutchcall.voice._voice import Agents, Voice

__all__ = [
    "Agent",
    "Agents",
    "AsyncAgents",
    "AsyncAudioBridge",
    "AsyncAudioBridges",
    "AsyncCall",
    "AsyncCallEvents",
    "AsyncCallPage",
    "AsyncCalls",
    "AsyncFrames",
    "AsyncTrunks",
    "AsyncVoice",
    "AudioBridge",
    "AudioBridges",
    "BridgeStats",
    "Call",
    "CallEvents",
    "CallLeg",
    "CallPage",
    "CallStats",
    "CallTransfer",
    "Calls",
    "Dtmf",
    "Frame",
    "Frames",
    "Trunks",
    "Voice",
]
