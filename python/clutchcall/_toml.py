"""Nested mappings as TOML text, for the settings of `Engine` and `Relay`."""

from __future__ import annotations

import os

from clutchcall._checks import check_text, check_whole

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["toml"]


# Of tables and lists in one another: no setting has as many.
_DEEPEST = 16


def toml(config: Mapping[str, object], name: str = "config") -> str:
    """Nested mappings as TOML; `None` leaves a key out. `name` is what errors call it."""
    pairs = (_pair(key, value, name, 0) for key, value in config.items() if value is not None)
    return "\n".join(pairs)


def _pair(key: str, value: object, name: str, depth: int) -> str:
    quoted = _quoted(key, f"a name in {name}")
    return f"{quoted} = {_value(value, f'{name}.{key}' if name else key, depth)}"


def _value(value: object, name: str, depth: int) -> str:
    if depth > _DEEPEST:
        raise ValueError(f"{name.partition('.')[0]} nests deeper than {_DEEPEST} tables and lists")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if isinstance(value, int):
            check_whole(**{name: value})
        return repr(value)
    if isinstance(value, (str, os.PathLike)):
        return _quoted(os.fspath(value), name)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item, name, depth + 1) for item in value)}]"
    if hasattr(type(value), "items"):
        table: Mapping[str, object] = value  # type: ignore[assignment]
        pairs = (_pair(key, item, name, depth + 1) for key, item in table.items() if item is not None)
        return f"{{ {', '.join(pairs)} }}"
    raise TypeError(f"{name} is a {type(value).__name__}: TOML has text, numbers, truth values, lists and tables")


def _quoted(text: str, name: str) -> str:
    """A basic string (TOML 1.0): quotes, backslashes and control characters are escaped."""
    check_text(**{name: text})
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
