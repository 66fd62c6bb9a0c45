"""What a child process asks, whatever it was made by."""

from __future__ import annotations

from clutchcall.voice import Voice


def ask(base_url: str, api_key: str, org_id: str, sid: str) -> str:
    """A call's status, and a frame of it."""
    with Voice(base_url, api_key, org_id) as voice:
        return voice.calls.get(sid).status
