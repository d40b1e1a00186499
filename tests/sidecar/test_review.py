"""A running sidecar and the approved copy of its schema: what operators and claims report."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.schema.review import approve, read_copy
from tests.schema.test_review import SAID, STATED, jitter, schema_of
from tests.support.command import Ended, run
from tests.support.deadline import wait_until
from tests.support.ledgers import entries_of
from tests.support.sidecar import Sidecar, started

_TEST = "tests: [{name: a call, event: {jitter: 12}, keeps: {network.jitter: 10}}]\n"
_LATE, _OK = b"[!] review calls late\n", b"[+] review calls ok\n"


class _Place:
    """A directory with a configuration, a schema, and possibly its approved copy."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.copy = folder, folder / "calls.reviewed.yaml"
        self.schema = schema_of(folder, jitter(), more=SAID + _TEST)
        text = f"schema: calls.yaml\ndata: {folder / 'data'}\nsandbox: off\n{more}"
        (folder / "c.yaml").write_text(text)

    def approve(self, **stated: str) -> None:
        """Approve the field as it is now."""
        copy = read_copy(self.copy)
        text = approve(copy, self.schema, "network.jitter", STATED | stated, {})
        self.copy.write_text(text)

    def verify(self) -> Ended:
        """Verify one of the three claims, without the sandbox."""
        told = ("claims", "--verify", "--config", "c.yaml", "--only", "no-monitoring", "--json")
        return run(*told, directory=self.folder)

    def verdict(self) -> str:
        """Return the claim's verdict."""
        done = self.verify()
        found: str = done.json["claims"][0]["verdict"]
        assert done.code == (0 if found in ("holds", "amended") else 1)
        return found

    def reload(self) -> None:
        """Reload the configuration."""
        done = run("config", "reload", "--config", "c.yaml", directory=self.folder)
        assert done.code == 0, done.err


def _ready(sidecar: Sidecar) -> bytes:
    answer = sidecar.admin("/readyz?verbose")
    assert answer.status == 200
    return answer.body


def test_a_copy_counts_once_the_sidecar_has_it(tmp_path: Path) -> None:
    place = _Place(tmp_path)
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert sidecar.send(b'{"jitter": 12}').status == 200
        assert _LATE in _ready(sidecar)
        assert place.verdict() == "unproven"
        place.approve()
        done = place.verify()
        assert done.json["claims"][0]["verdict"] == "unproven"
        assert len(done.json["checks"]["review"]) == 2, "what is added, and what is open"
        assert "config reload" in done.json["claims"][0]["advice"]
        place.reload()
        assert _OK in _ready(sidecar)
        done = place.verify()
        assert (done.code, done.json["claims"][0]["verdict"]) == (0, "amended")
        assert "attributed to A. Example, 2026-11-29" in str(done.json["claims"][0]["additions"])
        noted = [e for e in entries_of(tmp_path / "data" / "spool.db") if e.kind == "configuration"]
        assert len(noted) == 2
        place.approve(by="B. Example")
        assert place.verdict() == "unproven"
        place.reload()
        assert place.verdict() == "amended"
        place.approve(until="2020-01-01")
        place.reload()
        assert _LATE in _ready(sidecar)
        assert place.verdict() == "unproven"


def test_a_copy_that_is_replaced_by_a_link(tmp_path: Path) -> None:
    """The sidecar goes on. The file behind the link approves nothing."""
    place = _Place(tmp_path, "watch: true\n")
    place.approve()
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert _OK in _ready(sidecar)
        moved = tmp_path / "moved.yaml"
        place.copy.rename(moved)
        place.copy.symlink_to(moved)
        wait_until(lambda: "reloaded" in {one["event"] for one in sidecar.events})
        assert _LATE in _ready(sidecar)
        assert place.verdict() == "unproven"


@pytest.mark.parametrize("text", ["fields: {network.jitter: *all}\n", "x" * 2_000_000])
def test_a_faulty_copy_keeps_no_sidecar_from_starting(text: str, tmp_path: Path) -> None:
    """It receives and keeps what the schema says; only the claim is unproven."""
    place = _Place(tmp_path)
    place.copy.write_text(text)
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert sidecar.send(b'{"jitter": 12}').status == 200
        assert _LATE in _ready(sidecar)
        assert place.verdict() == "unproven"


def test_what_an_earlier_wider_schema_has_stored(tmp_path: Path) -> None:
    """Values that were stored before the field was narrowed match no approved definition."""
    place = _Place(tmp_path)
    place.approve()
    wide = jitter().replace("maximum: 1000", "maximum: 1000000")
    schema_of(tmp_path, wide, more=SAID + _TEST)
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert sidecar.send(b'{"jitter": 900000}').status == 200
        assert sidecar.stop()[0] == 0
    schema_of(tmp_path, jitter(), more=SAID + _TEST)
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert _OK in _ready(sidecar)
        done = place.verify()
        assert done.json["claims"][0]["verdict"] == "unproven"
        assert "`calls/1.0.0`" in str(done.json["checks"]["review"])
