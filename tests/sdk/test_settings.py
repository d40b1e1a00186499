"""Settings: arguments, the environment above them, and messages that quote nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from collector.errors import CODES, ConfigError, ConfigFaults
from collector.sdk import settings as sdk_settings
from collector.sdk.client import Collector
from collector.sdk.settings import Settings, settings
from collector.sdk.target import local_store, target
from tests.support.rows import for_each


def read(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings of these arguments, in this environment."""
    with patch.dict(os.environ, environ, clear=True):
        return sdk_settings.read(arguments)


def test_defaults() -> None:
    assert read({}, {}) == Settings()
    assert read(dict.fromkeys(setting.name for setting in settings()), {}) == Settings()


def test_every_setting_is_an_argument() -> None:
    """Every argument but ``keys`` is a setting, and the other way round."""
    code = Collector.__init__.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    assert set(names) - {"keys"} == {setting.name for setting in settings()}


@for_each(
    ("name", "text", "value"),
    [
        ("mode", "local", "local"),
        ("schema", "conferencing-strict", "conferencing-strict"),
        ("to", "sqlite:///x.db", "sqlite:///x.db"),
        ("local", "ndjson:///x", "ndjson:///x"),
        ("queue", "5", 5),
        ("when_full", "oldest", "oldest"),
        ("batch", "20000", 20_000),
        ("interval", "500ms", 0.5),
        ("timeout", "2", 2.0),
        ("exit_timeout", "1m", 60.0),
        ("spool", "/var/spool/x", Path("/var/spool/x")),
        ("spool_limit", "64MiB", 64 << 20),
        ("token", "secret", "secret"),
        ("ca", "ca.pem", Path("ca.pem")),
        ("certificate", "c.pem", Path("c.pem")),
        ("consent", "planning, crashes", ("planning", "crashes")),
    ],
)
def test_the_environment_has_the_last_word(name: str, text: str, value: object) -> None:
    """A variable replaces each setting, whatever the argument is."""
    attribute = "schema_" if name == "schema" else name
    environ = {f"COLLECTOR_SDK_{name.upper()}": text}
    assert getattr(read({}, environ), attribute) == value
    other = {"mode": "on", "when_full": "newest", "queue": 1, "batch": 1}.get(name)
    assert getattr(read({name: other}, environ), attribute) == value


@for_each(
    ("name", "value"),
    [
        ("mode", "ON"),
        ("mode", True),
        ("to", ""),
        ("to", "canary"),
        ("to", "sqlite://canary"),
        ("to", "sqlite:///"),
        ("to", "sqlite:////"),
        ("to", "sqlite:///canary?mode=ro"),
        ("to", "unix:/canary"),
        ("to", "http://canary.example:4318"),
        ("to", "http://canary:pass@localhost"),
        ("to", "https://user@canary"),
        ("to", "https://canary?x=1"),
        ("to", "https://canary#x"),
        ("to", "https://canary:99999"),
        ("to", "https://[canary]"),
        ("to", "https://can ary"),
        ("to", "https://x/can\rary"),
        ("to", "https://"),
        ("local", "https://canary"),
        ("queue", 0),
        ("queue", True),
        ("queue", 1.5),
        ("queue", "1e3"),
        ("queue", "٣"),
        ("when_full", "random"),
        ("interval", -1),
        ("interval", float("nan")),
        ("interval", "1 day"),
        ("timeout", 0),
        ("exit_timeout", "canary"),
        ("spool", ""),
        ("spool", "\0"),
        ("spool_limit", "1TB"),
        ("token", "two words"),
        ("token", "naïve"),
        ("ca", 5),
    ],
)
def test_faults(name: str, value: object) -> None:
    """Each fault names its setting and quotes no value."""
    with pytest.raises(ConfigFaults) as caught:
        read({name: value}, {})
    (fault,) = caught.value.faults
    assert (fault.field, fault.code) == (name, "E107")
    assert "canary" not in str(caught.value)
    if isinstance(value, str) and "\0" not in value:
        with pytest.raises(ConfigFaults) as caught:
            read({}, {f"COLLECTOR_SDK_{name.upper()}": value})
        assert "canary" not in str(caught.value)


def test_a_slip_in_a_variable_is_told() -> None:
    """It could have left telemetry on."""
    with pytest.raises(ConfigFaults, match="COLLECTOR_SDK_MODE") as caught:
        read({}, {"COLLECTOR_SDK_MDOE": "off", "COLLECTOR_SDK_canary": "x"})
    assert caught.value.code == "E105"
    assert "MDOE" not in str(caught.value)
    assert "did you mean `COLLECTOR_SDK_MODE`?" in str(caught.value)
    with pytest.raises(ConfigFaults) as other:
        read({}, {"COLLECTOR_SDK_CANARY_OF_MINE": "x"})
    assert "did you mean" not in str(other.value)
    assert "CANARY" not in str(other.value)
    assert set(CODES) >= {"E105", "E107"}


def test_targets() -> None:
    """Schemes, ports, prefixes."""
    assert target("http://localhost").port == 4318
    assert target("http://127.0.0.1:1").port == 1
    assert target("http://[::1]:2").host == "::1"
    assert target("https://collector.example").port == 443
    assert target("https://collector.example/a/b/").prefix == "/a/b"
    assert target("unix:///run/c.sock").path == Path("/run/c.sock")
    assert target("sqlite:////var/x.db").path == Path("/var/x.db")
    assert target("sqlite:///a%20b.db").path == Path("a b.db")
    assert repr(target("https://collector.example")) == "<Target: https>"


@for_each("path", ["/v1/records", "/v1/events/", "/a/v1/records", "/v1/"])
def test_the_path_of_a_receiver_is_none_of_a_target(path: str) -> None:
    """It would be asked for twice over; the fault says what to leave out, and quotes nothing."""
    with pytest.raises(ValueError, match="leave the path") as caught:
        target(f"https://canary.example{path}")
    assert "canary" not in str(caught.value)


def test_the_users_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows XDG; relative values do not count; a user without a home is an error."""
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert local_store().path == Path("/data/collector/telemetry.db")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.setattr("sys.platform", "linux")
    assert local_store().path == Path("/home/ana/.local/share/collector/telemetry.db")
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Application Support" in str(local_store().path)
    monkeypatch.setattr(Path, "home", _homeless)
    with pytest.raises(ConfigError, match="E203"):
        local_store()


def _homeless() -> Path:
    raise RuntimeError("a user without a home")


def test_settings_show_nothing() -> None:
    """A token could be among them."""
    assert repr(read({"token": "canary"}, {})) == "<Settings>"


def test_all_wrong_arguments_are_said_at_once() -> None:
    with pytest.raises(ConfigFaults) as caught:
        Collector("canary", "ftp://canary", queue=-1, local="https://canary")
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [
        ("to", "E107"),
        ("local", "E107"),
        ("queue", "E107"),
        ("schema", "E101"),
    ]
    assert "canary" not in str(caught.value)
    assert "ftp" not in str(caught.value)
    with pytest.raises(ConfigFaults) as caught:
        Collector(to="ftp://x", timeout=0, consent=["canary"])
    assert [fault.field for fault in caught.value.faults] == ["to", "timeout", "consent"]
    assert "canary" not in str(caught.value)
