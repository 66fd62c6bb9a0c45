"""Everything that `clutchcall` raises beside `ValueError` and `TypeError`.

`ClutchCallError` stands above all. `VoiceError` is the catch-all of the voice surface. Wrong arguments raise the
built-in `ValueError` or `TypeError` before anything is sent. Every message says what to do next.
"""

from __future__ import annotations

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BridgeClosed",
    "BridgeError",
    "CallError",
    "ClutchCallError",
    "ConfigError",
    "ConflictError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RelayUnreachable",
    "ServerError",
    "TokenExpired",
    "VoiceError",
]


class ClutchCallError(Exception):
    """Above every error of this package."""


class VoiceError(ClutchCallError):
    """Any failure of the voice surface."""

    retryable: bool = False
    """The same request may succeed later."""


class ConfigError(VoiceError):
    """A setting is missing or contradicts another; the message names it."""


class APIConnectionError(VoiceError):
    """The control plane can't be reached."""


class APITimeoutError(APIConnectionError):
    """The control plane did not answer in time."""


class APIStatusError(VoiceError):
    """The control plane answered with a status that is not a success."""

    status: int | None = None
    """The HTTP status."""
    code: str | None = None
    """The API's name of the error, such as `NOT_FOUND`."""
    request_id: str | None = None
    """Quote it when you ask about this request."""
    body: str | None = None
    """The answer's body, at most 4 KiB of it."""
    retry_after: float | None = None
    """Seconds to wait before the same request, as the server says (`Retry-After`): beside a 429, and beside a 503 such
    as that of a trunk which fails every call."""


class BadRequestError(APIStatusError):
    """400: the message names the field."""


class AuthenticationError(APIStatusError):
    """401: the API key is unknown."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this, or the org is not the key's."""


class NotFoundError(APIStatusError):
    """404: no such call or agent in this org."""


class ConflictError(APIStatusError):
    """409: somebody else speaks on this track, or the call is in the wrong state."""


class RateLimitError(APIStatusError):
    """429: too many requests; `retry_after` says when to come again."""


class ServerError(APIStatusError):
    """5xx: the server failed."""


class CallError(VoiceError):
    """A call ended in a way that was not asked for."""

    end_reason: str | None = None
    """Why, in one word: `busy`, `declined`, `ring_timeout`, …"""
    sip_code: int | None = None
    """The final SIP status, where there was one."""
    q850: int | None = None
    """The ITU-T Q.850 cause, where there was one."""


class BridgeError(VoiceError):
    """The audio bridge can't do this."""

    relay_code: int | None = None
    """The relay's code as it stood on the wire, where there was one."""


class BridgeClosed(BridgeError):
    """The bridge was closed, here or by the end of the call."""


class TokenExpired(BridgeError):
    """The relay refused the token as expired, and a fresh one could not be had."""


class RelayUnreachable(BridgeError):
    """No connection to the relay."""


def _from_core(name: str, message: str, fields: dict[str, object]) -> VoiceError:
    """The exception `name` with the numbers that came across the border; absent ones keep the class's default."""
    error: VoiceError = globals()[name](message)
    for field, value in fields.items():
        if value is not None:
            setattr(error, field, value)
    return error
