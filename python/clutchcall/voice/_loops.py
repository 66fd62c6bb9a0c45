"""How an event loop awaits the core: one `_core.Post` for each loop, one future for each question.

Nothing of `asyncio` is imported before somebody awaits.
"""

from __future__ import annotations

from clutchcall import _core

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, MutableMapping
    from typing import Any, Concatenate, ParamSpec

    P = ParamSpec("P")

_posts: MutableMapping[asyncio.AbstractEventLoop, _core.Post] | None = None


def posted() -> tuple[_core.Post, asyncio.Future[Any]]:
    """The way to the running loop, and a fresh future on it."""
    import asyncio
    import weakref

    global _posts
    loop = asyncio.get_running_loop()
    if _posts is None:
        _posts = weakref.WeakKeyDictionary()
    post = _posts.get(loop)
    if post is None:
        post = _posts.setdefault(loop, _core.Post(weakref.ref(loop)))
    return post, loop.create_future()


async def asked(
    begin: Callable[Concatenate[_core.Post, asyncio.Future[Any], P], _core.Begun],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> Any:  # noqa: ANN401 (the core says what)
    """Begins the work and awaits its outcome. Whoever is cancelled meanwhile leaves nothing of it behind."""
    post, future = posted()
    begun = begin(post, future, *arguments, **keywords)
    try:
        return await future
    except BaseException:
        begun.abandon()
        # The outcome may have come in the moment of the cancellation.
        if future.done() and not future.cancelled() and future.exception() is None:
            _lose(future.result())
        raise


def _lose(outcome: object) -> None:
    if isinstance(outcome, _core.Bridge):
        outcome.leave()
