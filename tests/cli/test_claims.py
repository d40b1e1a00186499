"""``collector claims``: sentences, what carries them, live counts, and a verdict."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from collector.spool import Spool
from tests.cli.process import run
from tests.spool.make import entry


def test_live_counts(tmp_path: Path) -> None:
    """They are the ledger's, while a sidecar holds the spool."""
    with Spool(tmp_path / "spool.db") as spool:
        spool.put(entry(1, 2, rejected={"malformed": 3})).result()
        done = run("claims", "--data", tmp_path, "--json")
    assert done.code == 0
    told = {claim["id"]: claim for claim in orjson.loads(done.out)["claims"]}
    assert told["no-sale"]["figures"] == {"admitted": 2}
    assert told["needed-only"]["figures"] == {
        "received": 5,
        "admitted": 2,
        "rejected": {"malformed": 3},
        "dropped": {},
        "bytes": {"in": 0, "out": 0},
    }
    assert "figures" in told["notice"]
    assert "missing" in told["notice"]
    assert all("verdict" not in claim for claim in told.values())


def test_for_people(tmp_path: Path) -> None:
    """Each sentence with what carries it; before anything came, there are no counts."""
    shown = run("claims", "--data", tmp_path).out.decode()
    assert "\n  We do not sell data.\n  rules   E301, E309\n" in shown
    assert "counts  none\n" in shown
    assert "not built yet: there is no recording to open" in shown
    with Spool(tmp_path / "spool.db") as spool:
        spool.put(entry(1, rejected={"malformed": 1200, "too_deep": 1})).result()
    shown = run("claims", "--data", tmp_path).out.decode()
    assert "rejected 1,201 (malformed 1,200, too_deep 1), dropped 0, bytes 0 in" in shown


def test_verify(tmp_path: Path) -> None:
    """Every check runs; what is not built yet is never verified."""
    done = run("claims", "--verify", "--data", tmp_path / "data", "--json")
    told = orjson.loads(done.out)
    verdicts = {claim["id"]: claim["verdict"] for claim in told["claims"]}
    assert verdicts["no-content"] == verdicts["no-sale"] == "holds"
    assert verdicts["unless-recorded"] == "missing"
    assert told["checks"] == {name: [] for name in told["checks"]}
    assert (told["ok"], done.code) == (False, 1)
    assert b"there is no data directory" in done.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_broken_claim(as_json: tuple[str, ...], tmp_path: Path) -> None:
    """It says which, and why."""
    path = tmp_path / "collector.yaml"
    sink = {"path": "a", "party": "third", "recipient": "Ads", "purposes": ["security"]}
    path.write_bytes(orjson.dumps({"data": str(tmp_path), "sinks": {"ndjson": sink}}))
    done = run("claims", "--verify", "--config", path, *as_json)
    assert done.code == 1
    if as_json:
        assert b'"verdict":"broken"' in done.out
        assert b"E309" in done.out
    else:
        assert b"no-sale broken" in done.out
        assert b"flows: settings: sinks.ndjson.party: a third party" in done.err
        assert b"canaries: not run" in done.err


def test_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    """It breaks the claims that need it, and others are told as they are; without it there are no
    counts to tell."""
    (tmp_path / "spool.db").write_bytes(b"canary of no database" * 1000)
    done = run("claims", "--verify", "--data", tmp_path)
    assert done.code == 1
    assert b"no-sale broken" in done.out
    assert b"no-content holds" in done.out
    assert b"ledger: the ledger cannot be read" in done.err
    done = run("claims", "--data", tmp_path)
    assert (done.code, done.out) == (1, b"")
    assert b"[E507]" in done.err
    assert b"canary" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["spool.db"]


def test_a_configuration_that_does_not_load(tmp_path: Path) -> None:
    """It is said as everywhere."""
    path = tmp_path / "collector.yaml"
    path.write_text("nonsense: 1")
    assert run("claims", "--config", path).code == 78
