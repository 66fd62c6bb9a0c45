"""The lines that carry calls, for both faces."""

from __future__ import annotations

from clutchcall.voice._checks import check_text

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from clutchcall import _core
    from clutchcall.types import Trunk, TrunkTest

__all__ = ["Trunks"]


class Trunks:
    """The trunks that calls may be routed over. Reached as `Voice.trunks`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    def list(self) -> list[Trunk]:
        """The trunks that the organisation may use, and how they do."""
        return read(self._core.trunks())

    def test(self, trunk_id: str) -> TrunkTest:
        """Has the engine ask the trunk's far side whether it is there (OPTIONS), and says what to do where it is not.

        Takes as long as the far side does, 10 s at most. What it answers counts for the trunk's health, too.

        Args:
            trunk_id: The trunk.

        Raises:
            NotFoundError: No such trunk.
        """
        check_text(trunk_id=trunk_id)
        return tested(self._core.test_trunk(trunk_id))

    def __repr__(self) -> str:
        return f"<Trunks of {self._core.base_url}>"


def tested(row: str) -> TrunkTest:
    """The same of one."""
    import json

    return _named(json.loads(row))  # type: ignore[return-value]


def read(rows: str) -> list[Trunk]:
    """The API's names become those of the settings."""
    import json  # Only who asks for trunks pays for it.

    return [_named(row) for row in json.loads(rows)]  # type: ignore[misc]


def _named(value: dict[str, object]) -> dict[str, object]:
    """A name with an underscore is none of the API's: it would stand in another's place, of whatever type it is."""
    return {
        _snake(name): _named(part) if isinstance(part, dict) else part
        for name, part in value.items()
        if "_" not in name
    }


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
