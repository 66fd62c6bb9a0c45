"""What is closed at the end of a `with` block. It imports nothing: every public module pays for it."""

from __future__ import annotations

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Closing:
    """A context manager that ends with `close()`."""

    __slots__ = ()

    def close(self) -> None:
        """Each class says what that means."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
