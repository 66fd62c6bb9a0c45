"""One taxonomy: the native table and the Python classes are the same tree."""

import builtins

import pytest

from clutchcall import _core, errors

NATIVE = dict(_core._error_classes())


def python_class(name: str) -> type[BaseException]:
    found: type[BaseException] = getattr(errors, name, None) or getattr(builtins, name)
    return found


@pytest.mark.parametrize("name", NATIVE)
def test_class_and_parent(name: str) -> None:
    cls = python_class(name)
    assert issubclass(cls, python_class(NATIVE[name]))
    if hasattr(errors, name):
        assert issubclass(cls, errors.VoiceError)
        assert issubclass(cls, errors.ClutchCallError)


def test_nothing_public_is_out_of_reach() -> None:
    assert set(errors.__all__) - set(NATIVE) == {"ClutchCallError", "VoiceError"}


@pytest.mark.parametrize("name", NATIVE)
def test_numbers_cross_the_border(name: str) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 (KeyboardInterrupt is one of them)
        _core._raise_sample(name)
    raised = caught.value
    assert type(raised) is python_class(name)
    if not isinstance(raised, errors.VoiceError):
        return
    assert str(raised) == "sample (request req_1)"
    if isinstance(raised, errors.APIStatusError):
        assert (raised.status, raised.code, raised.request_id, raised.body) == (418, "TEAPOT", "req_1", "{}")
        assert raised.retry_after == 1.5
    if isinstance(raised, errors.CallError):
        assert (raised.end_reason, raised.sip_code, raised.q850) == ("busy", 486, 17)
    if isinstance(raised, errors.BridgeError):
        assert raised.relay_code == 0x18
