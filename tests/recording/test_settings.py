"""The recorder's settings on this machine: faults at their places, and no secret in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.config import examine, read
from collector.config.model import RecorderSection
from collector.errors import ConfigError, Fault
from collector.recording import settings
from collector.recording.refusals import Refused
from collector.recording.settings import bucket_options, find_faults, verifier
from collector.recording.store import Store
from tests.recording.tokens import NOW, Platform
from tests.support.rows import for_each

_SECRET = "hunter2secret"


def _recorder(tmp_path: Path, **more: object) -> Path:
    """A configuration of a recorder."""
    section = {"data": str(tmp_path / "data"), "keys": str(tmp_path / "jwks.json"), **more}
    path = tmp_path / "collector.yaml"
    path.write_text(json.dumps({"recorder": {"enabled": True, **section}}))
    return path


def _faults(path: Path) -> list[Fault]:
    loaded = examine(path, {})
    return [*loaded.faults, *find_faults(loaded)]


def test_sound_settings(tmp_path: Path) -> None:
    """Have no faults, also while a recorder runs with them; nothing is made."""
    platform = Platform(tmp_path)
    path = _recorder(tmp_path)
    assert _faults(path) == []
    assert not (tmp_path / "data").exists()
    store = Store(tmp_path / "data")
    assert _faults(path) == []
    store.close()
    found = verifier(read(path, {}).config.recorder)
    assert found.verify(platform.token(), "m-1", NOW).jti == "j-1"
    with pytest.raises(Refused, match=r"^not_found"):
        found.verify(platform.token({"alg": "EdDSA"}), "m-1", NOW)
    older = verifier(read(_recorder(tmp_path, eddsa=True), {}).config.recorder)
    assert older.verify(platform.token({"alg": "EdDSA"}), "m-1", NOW).jti == "j-1"


def test_an_address_is_not_asked(tmp_path: Path) -> None:
    """A check of settings sends nothing."""
    assert _faults(_recorder(tmp_path, keys="https://meet.example.invalid/jwks")) == []


def test_every_fault_is_found(tmp_path: Path) -> None:
    """Each at its own line."""
    (tmp_path / "data").write_text("a file")
    (tmp_path / "jwks.json").write_text(_SECRET)
    more = {
        "bucket": "s3://recordings",
        "bucket_access_key": "env:NO_SUCH_VARIABLE",
        "bucket_secret_key": f"file:{tmp_path / 'none'}",
        "unix": str(tmp_path / "no" / "such" / "r.sock"),
    }
    faults = {fault.field: fault.code for fault in _faults(_recorder(tmp_path, **more))}
    assert faults == {
        "recorder.data": "E203",
        "recorder.keys": "E203",
        "recorder.bucket_access_key": "E202",
        "recorder.unix": "E203",
    }
    assert _SECRET not in str(_faults(_recorder(tmp_path, **more)))


def test_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Platform(tmp_path)
    monkeypatch.setattr(settings, "MODULES", ("no_such_module",))
    (fault,) = _faults(_recorder(tmp_path))
    assert (fault.field, fault.code) == ("recorder.enabled", "E201")
    assert "[recording]" in fault.message


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket_options(RecorderSection()) == {}
    monkeypatch.setenv("NAME_OF_KEY", "AKIA")
    (tmp_path / "secret").write_text(f"{_SECRET}\n")
    recorder = RecorderSection(
        bucket="s3://recordings",
        bucket_endpoint="http://127.0.0.1:8333",
        bucket_region="eu-1",
        bucket_access_key="env:NAME_OF_KEY",
        bucket_secret_key=f"file:{tmp_path / 'secret'}",
    )
    assert bucket_options(recorder) == {
        "endpoint": "http://127.0.0.1:8333",
        "region": "eu-1",
        "access_key_id": "AKIA",
        "secret_access_key": _SECRET,
        "allow_http": "true",
    }
    assert _SECRET not in repr(recorder)


@for_each("content", [b"", b"  \n", b"a\nb", b"\xff", b"x" * 5000, None])
def test_references_that_lead_to_no_secret(tmp_path: Path, content: bytes | None) -> None:
    """One line of text, and not endless."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    recorder = RecorderSection(bucket_access_key=f"file:{tmp_path / 'secret'}")
    with pytest.raises(ConfigError, match="E202"):
        bucket_options(recorder)
