"""``collector claims``: sentences, what carries them, live counts, and a verdict."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from collector.claims.document import CHECKS, RECORDING_CHECKS, SERVING_CHECKS, load_claims
from collector.claims.verification import verdict
from collector.cli.claims import recording_findings, serving_findings
from collector.config import Config
from collector.config.model import RecorderSection
from collector.recording.dry_run import TrialRecorder
from collector.spool import Spool
from tests.cli.process import run
from tests.spool.make import commit, entry


def test_live_counts(tmp_path: Path) -> None:
    """They are the ledger's, while a sidecar holds the spool."""
    with Spool(tmp_path / "spool.db") as spool:
        commit(spool, entry(1, 2, rejected={"malformed": 3}))
        done = run("claims", "--data", tmp_path, "--json")
    assert done.code == 0
    told = {claim["id"]: claim for claim in done.json["claims"]}
    assert told["no-sale"]["figures"] == {"admitted": 2}
    assert told["needed-only"]["figures"] == {
        "received": 5,
        "admitted": 2,
        "rejected": {"malformed": 3},
        "dropped": {},
        "bytes": {"in": 0, "out": 0},
    }
    assert told["notice"]["figures"] is None, "there is no recorder"
    assert all("verdict" not in claim for claim in told.values())


def test_for_people(tmp_path: Path) -> None:
    """Each sentence with what carries it; before anything came, there are no counts."""
    shown = run("claims", "--data", tmp_path).out.decode()
    assert "\n  We do not sell data.\n  rules   E301, E309\n" in shown
    assert "counts  none\n" in shown
    assert "not built yet" not in shown
    with Spool(tmp_path / "spool.db") as spool:
        commit(spool, entry(1, rejected={"malformed": 1200, "too_deep": 1}))
    shown = run("claims", "--data", tmp_path).out.decode()
    assert "rejected 1,201 (malformed 1,200, too_deep 1), dropped 0, bytes 0 in" in shown


def test_verify(tmp_path: Path) -> None:
    """Every check runs; without a recorder nothing of a meeting is kept, which is said."""
    done = run("claims", "--verify", "--data", tmp_path / "data", "--json")
    told = done.json
    verdicts = {claim["id"]: claim["verdict"] for claim in told["claims"]}
    assert verdicts["no-content"] == verdicts["no-sale"] == "holds"
    assert set(verdicts.values()) == {"holds"}
    note = ["no recorder is configured: nothing of a meeting is kept"]
    own = [*CHECKS, *SERVING_CHECKS]
    assert {name: told["checks"][name] for name in own} == {name: [] for name in own}
    assert {str(told["checks"][name]) for name in RECORDING_CHECKS} == {str(note)}
    assert (told["ok"], done.code) == (True, 0)
    assert b"there is no data directory" in done.err
    assert not (tmp_path / "data").exists()


def test_recordings(tmp_path: Path) -> None:
    """Those in the recorder's directory are looked at and counted while it runs; nothing of them
    is shown."""
    path, directory = tmp_path / "collector.json", tmp_path / "recorder"
    settings = {"data": str(tmp_path / "data"), "recorder": {"data": str(directory)}}
    path.write_bytes(orjson.dumps(settings))
    trial = TrialRecorder(directory, "canary-1")
    with closing(trial.recorder):
        trial.stay("guest-1")
        trial.control("start")
        trial.send("guest-1")
        trial.control("stop")
        done = run("claims", "--verify", "--config", path, "--json")
        told = done.json
        trial.files()[0].unlink()
        broken = run("claims", "--verify", "--config", path, "--only", "access-control")
    assert {claim["verdict"] for claim in told["claims"]} == {"holds"}
    figures = {claim["id"]: claim["figures"] for claim in told["claims"]}
    assert figures["stay-or-leave"] == {"choices": {"stay": 1, "leave": 0, "withdraw": 0}}
    assert figures["no-sale"] is None
    assert (broken.code, b"access-control broken" in broken.out) == (1, True)
    assert b"access: a recording: " in broken.err
    assert b"guest-1" not in broken.err + broken.out + done.out


def test_recordings_without_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that cannot be looked at leaves its claims unproven."""
    monkeypatch.setitem(sys.modules, "collector.recording.claims", None)
    config = Config(recorder=RecorderSection(data=tmp_path))
    found = recording_findings(config)
    assert tuple(found) == RECORDING_CHECKS
    assert {
        verdict(claim, found) for claim in load_claims().values() if "notice" in claim.checks
    } == {"unproven"}


def test_workers_without_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started, the claims that need one are unproven."""
    monkeypatch.setitem(sys.modules, "collector.server.sandbox_check", None)
    found = serving_findings(Config())
    assert tuple(found) == SERVING_CHECKS
    every = {**dict.fromkeys(CHECKS, ()), **found}
    needs = [claim for claim in load_claims().values() if "sandbox" in claim.checks]
    assert {verdict(claim, every) for claim in needs} == {"unproven"}


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
    assert b"no-content unproven" in done.out
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


def test_only_some(tmp_path: Path) -> None:
    """A build can ask for those that it is about; an unknown name is exit 2."""
    folder = tmp_path / "data"
    asked = ("--only", "no-sale", "--only", "notice", "--only", "no-sale")
    told = run("claims", "--data", folder, "--json", *asked).json
    assert [claim["id"] for claim in told["claims"]] == ["no-sale", "notice"]
    done = run("claims", "--verify", "--data", folder, "--only", "no-sail")
    assert (done.code, b"no-sale" in done.err) == (2, True)
    with Spool(folder / "spool.db"):
        pass
    (folder / "store.db").write_bytes(b"canary of no database" * 1000)
    for name, code in (("no-content", 1), ("notice", 0)):
        assert run("claims", "--verify", "--data", folder, "--json", "--only", name).code == code


_OWN = """
claims:
  our-promise:
    text: "We promise it."
    rules: [E305]
    checks: [policy, canaries]
    tests: [ours]
    counters: [content]
  some-day:
    text: "Some day."
    missing: "it is not built"
"""


def test_sentences_of_an_organisation(tmp_path: Path) -> None:
    """They come after the shipped ones, and are verified as these are."""
    (tmp_path / "own.yaml").write_text(_OWN)
    path = tmp_path / "c.yaml"
    settings = {"data": str(tmp_path / "data"), "claims": str(tmp_path / "own.yaml")}
    path.write_bytes(orjson.dumps(settings))
    done = run("claims", "--verify", "--config", path, "--json")
    verdicts = {claim["id"]: claim["verdict"] for claim in done.json["claims"]}
    assert list(verdicts)[-2:] == ["our-promise", "some-day"]
    assert (done.code, verdicts["our-promise"], verdicts["some-day"]) == (0, "holds", "missing")
    assert verdicts["no-content"] == "holds"


@pytest.mark.parametrize(
    ("own", "code"),
    [
        (_OWN.replace("our-promise", "no-content"), b"[E107]"),
        (_OWN.replace("canaries", "hope"), b"[E107]"),
        (_OWN.replace("    checks: [policy, canaries]\n", ""), b"[E106]"),
        (_OWN.replace("We promise", "We \x1b promise"), b"[E102]"),
        ("claims: 1", b"[E107]"),
        (None, b"[E101]"),
    ],
)
def test_faulty_sentences(tmp_path: Path, own: str | None, code: bytes) -> None:
    """Exit 78, and where; a shipped sentence cannot be replaced by a weaker one."""
    if own is not None:
        (tmp_path / "own.yaml").write_text(own)
    path = tmp_path / "c.yaml"
    path.write_bytes(orjson.dumps({"claims": str(tmp_path / "own.yaml")}))
    done = run("claims", "--config", path)
    assert (done.code, code in done.err) == (78, True), done.err
