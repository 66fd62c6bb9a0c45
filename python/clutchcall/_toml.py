"""Nested mappings as TOML text, for the settings of `Engine` and `Relay`."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["toml"]


def toml(config: Mapping[str, object]) -> str:
    """Nested mappings as TOML; `None` leaves a key out."""
    return "\n".join(f"{_quoted(key)} = {_value(value)}" for key, value in config.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, os.PathLike)):
        return _quoted(os.fspath(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    if hasattr(value, "items"):
        pairs = (f"{_quoted(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {', '.join(pairs)} }}"
    raise TypeError(f"config holds a {type(value).__name__}: TOML has text, numbers, truth values, lists and tables")


def _quoted(text: str) -> str:
    """A basic string (TOML 1.0): quotes, backslashes and control characters are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
