"""
The native half of `clutchcall`; use the public modules instead.
"""

from typing import Final

__all__ = ["__version__", "_error_classes", "_raise_sample"]

__version__: Final[str]
"""
The version of the wheel.
"""

def _error_classes() -> list[tuple[str, str]]:
    """
    Every (class, parent class) that this module can raise; a test compares it with `clutchcall.errors`.
    """

def _raise_sample(name: str) -> None:
    """
    Raises what the class `name` looks like with every field filled in, so that a test can follow each field across the border.
    """
