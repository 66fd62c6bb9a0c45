"""Where commands keep what outlives them, as `Voice()` looks for it too (`client/options.rs`)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["state_folder"]


def state_folder() -> Path:
    """`CLUTCHCALL_STATE_DIR`, else the user's own; it need not exist yet."""
    if own := os.environ.get("CLUTCHCALL_STATE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "clutchcall"
