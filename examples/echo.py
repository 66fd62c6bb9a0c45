"""An agent that says back what it hears.

clutchcall dev                 # in another terminal
python examples/echo.py [NUMBER]
"""

from __future__ import annotations

import sys

from clutchcall.voice import Voice

NUMBER = sys.argv[1] if len(sys.argv) > 1 else "+15550009013"

with Voice() as voice:
    call = voice.calls.originate(NUMBER, from_="+15558675309", trunk_id="trunk_main")
    with voice.audio_bridge.attach(call.sid) as bridge:
        bridge.on_uplink(lambda frame, timestamp_us: bridge.publish_downlink(frame))
        call.wait(timeout=120)
        stats = bridge.stats()
    print(f"{call.sid} ended ({call.end_reason}): {stats.frames_in} frames heard, {stats.frames_out} said")
