"""The SDK against recorded answers: what it sends, byte for byte, and what it makes of what other servers say.

The cases are `tests/data/vendor/client.txt`; what the vendor's own clients send is beside it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from recorded import Request, recorded, success

import clutchcall
from clutchcall import errors
from clutchcall.voice import AsyncVoice, Voice

CASES = (Path(__file__).parents[1] / "data/vendor/client.txt").read_text(encoding="utf-8").split("=== ")[1:]

# A bridge's name for itself, drawn anew for each.
HOLDER = re.compile('(?<="holder":")[0-9a-f]{32}(?=")')


def parts(case: str) -> tuple[str, str, dict[str, Any], str, int, str, str]:
    """Name, method, arguments, request, status, answer, outcome."""
    head, answered, outcome = case.rstrip("\n").split("\n--->\n")
    name, call, request = head.split("\n", 2)
    method, _, arguments = call.partition(" ")
    status, _, answer = answered.partition("\n")
    return name, method, json.loads(arguments), request, int(status), answer, outcome


def as_sent(request: Request) -> str:
    """As the data has it: keys that are drawn and names of this machine are left open."""

    def plain(name: str, value: str) -> str:
        if name == "idempotency-key" and re.fullmatch("[0-9a-f]{32}", value):
            return "{key}"
        if name == "user-agent":
            assert value == f"clutchcall/{clutchcall.__version__}"
        return {"user-agent": "{agent}", "host": "{host}"}.get(name, value)

    headers = "\n".join(f"{name}: {plain(name, value)}" for name, value in request.headers)
    return f"{request.line.removesuffix(' HTTP/1.1')}\n{headers}\n\n{HOLDER.sub('{holder}', request.body)}"


def of(voice: Any, method: str) -> Any:  # noqa: ANN401
    target, name = method.split(".")
    return getattr(getattr(voice, target), name)


def fields(result: Any, wanted: Any) -> Any:  # noqa: ANN401
    """Those of the result that are wanted."""
    if wanted is None:
        return result
    if isinstance(wanted, list):
        return [fields(*pair) for pair in zip(result, wanted, strict=True)]
    return {name: result[name] if isinstance(result, dict) else getattr(result, name) for name in wanted}


def check_error(error: Exception, outcome: str, url: str) -> None:
    kind, _, rest = outcome.partition(" ")
    numbers, end = json.JSONDecoder().raw_decode(rest)
    assert type(error) is getattr(errors, kind)
    assert fields(error, numbers) == numbers
    assert str(error) == rest[end + 1 :].replace("{url}", url)


@pytest.mark.parametrize("twin", ["Voice", "AsyncVoice"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.partition("\n")[0])
def test_what_is_asked_and_what_comes_of_it(case: str, twin: str) -> None:
    _, method, arguments, request, status, answer, outcome = parts(case)
    with recorded((200, success())) as there:
        kind = {"Voice": Voice, "AsyncVoice": AsyncVoice}[twin]

        async def ask(voice: Any) -> Any:  # noqa: ANN401
            async def done(result: Any) -> Any:  # noqa: ANN401
                return await result if inspect.isawaitable(result) else result

            call = await done(voice.calls.get("CA1")) if method.startswith("call.") else None
            there.answers, there.asked[:] = [(status, answer)], []
            told = getattr(call, method[5:]) if call else of(voice, method)
            return await done(told(**arguments))

        voice = kind(there.url, "tqs_live_1", "org_a", max_retries=0)
        try:
            result = asyncio.run(ask(voice))
        except errors.ClutchCallError as error:
            check_error(error, outcome, there.url)
        else:
            assert outcome[0] in "[{n", f"it succeeded with {result!r}, and {outcome} belongs there"
            wanted = json.loads(outcome)
            assert fields(result, wanted) == wanted
    assert [as_sent(asked) for asked in there.asked] == [request]


def test_there_are_as_many_cases_as_were_written() -> None:
    assert len(CASES) == len({parts(case)[0] for case in CASES}) == 37


def test_the_data_can_fail() -> None:
    error = errors.NotFoundError("no such call")
    with pytest.raises(AssertionError):
        check_error(error, 'NotFoundError {"status": 404} no such call', "http://x")
