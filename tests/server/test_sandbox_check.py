"""The check `sandbox` of the claims: it holds for what is confined, and tells what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.claims.document import SERVING_CHECKS
from collector.claims.findings import ClaimFinding
from collector.config import load
from collector.sandbox import Support, support
from collector.server import sandbox_check
from collector.server.sandbox_check import try_worker
from tests.conftest import required
from tests.support.certificates import Authority
from tests.support.make_schemas import PSEUDONYM


def _findings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, leak: str = "", **settings: str
) -> tuple[ClaimFinding, ...]:
    """What it finds of a configuration, where workers have a leak."""
    for name, value in settings.items():
        monkeypatch.setenv(f"COLLECTOR__{name}", value)
    monkeypatch.setenv("COLLECTOR__DATA", str(folder / "data"))
    if leak:
        monkeypatch.setattr(sandbox_check, "_MODULE", "tests.server.leaky_worker")
        monkeypatch.setenv("FAKETIME_LEAK", leak)  # a name that workers are left
    found = try_worker(load(None))
    assert tuple(found) == SERVING_CHECKS
    assert not (folder / "data").exists()
    return found["sandbox"] or ()


@pytest.fixture
def _kernel() -> None:
    if lacks := support().lacks:
        required(" and ".join(lacks))


@pytest.mark.usefixtures("_kernel")
def test_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _findings(tmp_path, monkeypatch) == ()
    issued = Authority(tmp_path).issue("server")
    issued.key.chmod(0o600)
    (tmp_path / "s.yaml").write_text(PSEUDONYM.format(key="env:CHECK_KEY"))
    monkeypatch.setenv("CHECK_KEY", "a secret of the operator")
    settings = {
        "SCHEMA": str(tmp_path / "s.yaml"),
        "TLS__CERTIFICATE": str(issued.certificate),
        "TLS__KEY": str(issued.key),
        "HTTP__UNIX": str(tmp_path / "socket"),
        "HTTP__ADDRESS": "127.0.0.1:1",
        "SANDBOX": "required",
        "WORKERS": "3",
    }
    assert _findings(tmp_path, monkeypatch, **settings) == ()
    assert not (tmp_path / "socket").exists()


def test_where_nothing_is_confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open, and says why."""
    (found,) = _findings(tmp_path, monkeypatch, SANDBOX="off")
    assert (found.is_open, bool(found.advice)) == (True, True)
    lacking = Support(0, seccomp=False, lacks=("Landlock", "seccomp filters"))
    monkeypatch.setattr(sandbox_check, "support", lambda: lacking)
    (found,) = _findings(tmp_path, monkeypatch, SANDBOX="auto")
    assert (found.is_open, bool(found.advice)) == (True, True)
    assert "Landlock, seccomp filters" in found.message


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize(
    ("leak", "is_open", "words"),
    [
        ("files_only", False, "make a process"),
        ("with_a_file", False, "files that were open"),
        pytest.param("unconfined", True, "", marks=pytest.mark.long),
        pytest.param("short", True, "", marks=pytest.mark.long),
    ],
)
def test_what_a_worker_could_do(
    leak: str, is_open: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks the claims; where nothing was shown they are open."""
    found = _findings(tmp_path, monkeypatch, leak)
    assert any(words in each.message for each in found)
    assert {each.is_open for each in found} == {is_open}


@pytest.mark.usefixtures("_kernel")
def test_a_worker_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open, and says why."""
    (tmp_path / "s.yaml").write_text(PSEUDONYM.format(key="env:CHECK_KEY"))
    monkeypatch.delenv("CHECK_KEY", raising=False)
    settings = {"SCHEMA": str(tmp_path / "s.yaml")}
    (found,) = _findings(tmp_path, monkeypatch, **settings)
    assert found.is_open
    assert "pseudonym" in found.message


@pytest.mark.usefixtures("_kernel")
def test_a_worker_that_must_be_confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends as it is not let says so, not that it cannot listen."""
    (found,) = _findings(tmp_path, monkeypatch, "unconfined", SANDBOX="required")
    assert (found.is_open, bool(found.advice)) == (True, True)
