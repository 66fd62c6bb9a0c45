"""The founding document from its title to the end of `Voice`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from founding import begun
from listening import FROM, until
from recorded import OK, Recorded, recorded, success

from clutchcall.engine import Engine
from clutchcall.errors import ConfigError, PermissionDeniedError
from clutchcall.relay import Relay
from clutchcall.voice import Agents, AudioBridges, Calls, Voice

SETTINGS = {"base_url": "https://engine.clutchcall.dev", "api_key": "tqs_live_1", "org_id": "org_abc"}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own settings."""
    for name in ("BASE_URL", "API_KEY", "ORG_ID", "CREDENTIALS", "RELAY_HOST", "CONFIG", "PROFILE"):
        monkeypatch.delenv(f"CLUTCHCALL_{name}", raising=False)
    monkeypatch.setenv("CLUTCHCALL_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def voice_of(there: Recorded, **more: Any) -> Voice:  # noqa: ANN401
    return Voice(base_url=there.url, api_key="tqs_live_1", org_id="org_abc", max_retries=0, **more)


def test_voice_sdk_methods_import() -> None:
    import clutchcall.moqt
    from clutchcall.voice import Voice as imported

    assert imported is Voice
    assert clutchcall.moqt.MoqtClient.__module__ == "clutchcall.moqt"


def test_voice_client_hands_out_three_scoped_helpers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    v = begun(engine)["v"]
    kinds = (type(v.calls), type(v.audio_bridge), type(v.agents))
    assert kinds == (Calls, AudioBridges, Agents)


def test_voice_client_helpers_carry_org_and_key() -> None:
    """Each request of each helper names the org and shows the key."""
    with recorded((200, success())) as there, voice_of(there) as v:
        call = v.calls.originate(to="+15551234567", from_=FROM, trunk_id="trunk_main")
        v.calls.get(sid="CA1")
        there.answers = [(200, OK)]
        call.transfer("+15557654321")
        call.hangup()
        v.agents.attach("CA1", "healthcare-assistant")
        there.answers = [(404, '{"error":{"message":"no such call","code":-32004}}')]
        with pytest.raises(Exception, match="no such call"):
            v.audio_bridge.attach("CA1", on_uplink=print)
    assert len(there.asked) == 6
    for request in there.asked:
        assert request.header("authorization") == "Bearer tqs_live_1"
        assert "org_abc" in (request.body or request.line), request


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("missing", SETTINGS)
def test_voice_client_requires(missing: str) -> None:
    given: dict[str, Any] = {name: value for name, value in SETTINGS.items() if name != missing}
    with pytest.raises(ConfigError, match=f"^{missing} is missing.*CLUTCHCALL_{missing.upper()}"):
        Voice(**given)


@pytest.mark.parametrize("url", ["https://engine.clutchcall.dev", "https://engine.clutchcall.dev/"])
def test_voice_client_base_url_is_an_origin_without_a_slash(url: str) -> None:
    v = Voice(url, "tqs_live_1", "org_abc")
    assert (v.base_url, v.org_id) == ("https://engine.clutchcall.dev", "org_abc")


def test_voice_client_api_key_needs_voice_scopes(tmp_path: Path) -> None:
    keys = [
        {"org": "org_abc", "key": f"a-key-with-{scope}-alone", "scopes": [scope]} for scope in ("voice:*", "bill:*")
    ]
    config = {
        "state": "state",
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": keys,
        "trunks": {"trunk_main": {"kind": "phone"}},
    }
    with Engine(config, state=tmp_path) as engine:
        for key in keys:
            with Voice(engine.base_url, str(key["key"]), "org_abc") as v:
                if key["scopes"] == ["voice:*"]:
                    v.calls.originate(to="+15550009000", from_=FROM, trunk_id="trunk_main").hangup()
                    continue
                with pytest.raises(PermissionDeniedError, match=r"voice:calls\.originate"):
                    v.calls.originate(to="+15550009000", from_=FROM, trunk_id="trunk_main")


def no_relay(role: str = "server") -> str:
    """A token answer that leaves the relay open."""
    track = {"namespace": ["voice", "CA1", "uplink"], "name": "audio"}
    other = {"namespace": ["voice", "CA1", "downlink"], "name": "audio"}
    assert role == "server"
    return success(json.dumps({"token": "any", "expiresInS": 3600, "publish": other, "subscribe": track}))


def test_voice_client_relay_host_replaces_the_relays(tmp_path: Path) -> None:
    """Where the answer names no relay at all, too; without it that means `relay.clutchcall.dev`."""
    with Relay("127.0.0.1:0", open=True, state=tmp_path) as relay, recorded((200, no_relay())) as there:
        assert voice_of(there).relay_host is None
        with voice_of(there, relay_host=relay.address) as v:
            assert v.relay_host == relay.address
            bridge = v.audio_bridge.attach("CA1", on_uplink=print)
            # Its certificate is its own, which nobody else vouches for.
            until(lambda: "certificate" in (bridge.reason or "").lower(), lambda: f"{relay.address}: {bridge.reason}")


@pytest.mark.parametrize("option", ["fetch", "webTransport", "web_transport"])
def test_voice_client_has_no_option_of_typescript_alone(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        Voice(**SETTINGS, **{option: print})  # type: ignore[arg-type]


def test_voice_client_names_its_arguments_as_the_document() -> None:
    names = list(inspect.signature(Voice).parameters)
    assert names[:4] == ["base_url", "api_key", "org_id", "relay_host"]
