"""``collector claims``: sentences, what carries them, live counts, and a verdict."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.claims.document import CHECKS, RECORDING_CHECKS, SERVING_CHECKS, load_claims
from collector.claims.findings import NO_RECORDER, verdict
from collector.cli.claims import recording_findings, serving_findings
from collector.config import Config
from collector.config.model import RecorderSection
from collector.errors import ConfigError
from collector.recording.dry_run import TrialRecorder
from collector.spool import Spool
from tests.support.command import run
from tests.support.make_batches import commit, entry
from tests.support.populated import PopulatedDirectory
from tests.support.rows import for_each


def _each(told: dict[str, Any], key: str) -> dict[str, Any]:
    return {claim["id"]: claim[key] for claim in told["claims"]}


def test_live_counts(tmp_path: Path) -> None:
    """The counts are the ledger's, while a sidecar holds the spool."""
    with Spool(tmp_path / "spool.db") as spool:
        commit(spool, entry(1, 2, rejected={"malformed": 3}))
        told = _each(run("claims", "--data", tmp_path, "--json").json, "figures")
    assert told["no-sale"] == {"admitted": 2}
    counts = {"received": 5, "admitted": 2, "rejected": {"malformed": 3}, "dropped": {}}
    assert told["needed-only"] == counts | {"bytes": {"in": 0, "out": 0}}
    assert told["notice"] is None, "there is no recorder"


def test_for_people(tmp_path: Path) -> None:
    """The output gives each sentence once; ``--verify`` changes nothing."""
    shown = run("claims", "--data", tmp_path)
    lines, sentences = shown.out.decode().splitlines(), [c.text for c in load_claims().values()]
    assert [line for line in lines if line[2:] in sentences] == [f"\u2713 {s}" for s in sentences]
    assert shown.err == b""
    assert not any(word in shown.out for word in (b"E301", b"canaries", b"tests/", b"received"))
    assert "11 hold." in lines
    assert run("claims", "--verify", "--data", tmp_path).out == shown.out
    with Spool(tmp_path / "spool.db") as spool:
        commit(spool, entry(1, rejected={"malformed": 1200, "too_deep": 1}))
    shown = run("claims", "--details", "--data", tmp_path)
    assert b"rejected 1,201 (malformed 1,200, too_deep 1), dropped 0, bytes 0 in" in shown.out
    assert b"\n  rules   E301, E309\n" in shown.out


def test_what_needs_attention_comes_first(tmp_path: Path) -> None:
    """Broken claims come first, then unproven ones, then the rest."""
    (tmp_path / "notes.txt").write_text("of another program")
    done = run("claims", "--data", tmp_path)
    lines = done.out.decode().splitlines()
    signs = [line[0] for line in lines if re.match(r"[^\s\d] ", line)]
    assert signs == ["?"] * 5 + ["\u2713"] * 6
    assert done.out.count(b"\n  What to do: ") == 5
    plain = run("claims", "--data", tmp_path, encoding="ascii")
    assert plain.out.isascii()
    assert (plain.code, plain.out.count(b"\nv ")) == (1, 6)


def test_verify(tmp_path: Path) -> None:
    done = run("claims", "--verify", "--data", tmp_path / "data", "--json")
    told = done.json
    verdicts = _each(told, "verdict")
    assert set(verdicts.values()) == {"holds"}
    assert all(claim["reason"] for claim in told["claims"])
    own = [*CHECKS, *SERVING_CHECKS]
    assert [name for name in own if told["checks"][name]] == ["stored"], "there is no directory"
    assert {str(told["checks"][name]) for name in RECORDING_CHECKS} == {str([NO_RECORDER])}
    assert (told["ok"], done.code) == (True, 0)
    assert not (tmp_path / "data").exists()


def test_verdicts_are_recorded(tmp_path: Path) -> None:
    """They are in a private file that keeps the verdicts of other claims."""
    with Spool(tmp_path / "spool.db"):
        assert run("claims", "--data", tmp_path).code == 0
    file = tmp_path / "verdicts.json"
    assert file.stat().st_mode & 0o777 == 0o600
    before = [each["promise"]["id"] for each in orjson.loads(file.read_bytes())]
    assert before == [*load_claims()]
    assert run("claims", "--data", tmp_path, "--only", "no-sale").code == 0, "it is ours"
    assert [each["promise"]["id"] for each in orjson.loads(file.read_bytes())] == before
    file.write_bytes(file.read_bytes() + b" ")
    assert run("claims", "--data", tmp_path, "--only", "no-sale").code == 1, "something was added"


def test_recordings(tmp_path: Path) -> None:
    """A recorder's recordings are counted while it runs."""
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
    figures = _each(told, "figures")
    assert figures["stay-or-leave"] == {"choices": {"stay": 1, "leave": 0, "withdraw": 0}}
    assert figures["no-sale"] is None
    assert (broken.code, b"\n  Broken." in broken.out) == (1, True)
    assert b"guest-1" not in broken.err + broken.out + done.out


def test_recordings_without_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "collector.recording.claims", None)
    config = Config(recorder=RecorderSection(data=tmp_path))
    found = recording_findings(config)
    assert tuple(found) == RECORDING_CHECKS
    needs = [claim for claim in load_claims().values() if "notice" in claim.checks]
    assert {verdict(claim, found) for claim in needs} == {"unproven"}


def test_workers_without_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that need a worker are unproven where none can be started."""
    monkeypatch.setitem(sys.modules, "collector.server.sandbox_check", None)
    found = serving_findings(Config())
    assert tuple(found) == SERVING_CHECKS
    every = {**dict.fromkeys(CHECKS, ()), **found}
    needs = [claim for claim in load_claims().values() if "sandbox" in claim.checks]
    assert {verdict(claim, every) for claim in needs} == {"unproven"}


@for_each("as_json", [(), ("--json",)])
def test_a_broken_claim(as_json: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "collector.yaml"
    sink = {"path": "a", "party": "third", "recipient": "Ads", "purposes": ["security"]}
    path.write_bytes(orjson.dumps({"data": str(tmp_path), "sinks": {"ndjson": sink}}))
    done = run("claims", "--verify", "--config", path, *as_json)
    assert done.code == 1
    if as_json:
        assert b'"verdict":"broken"' in done.out
        assert b"E309" in done.out
    else:
        assert done.out.startswith("\u2717 We give nothing to third parties".encode())
        assert b"`sinks.ndjson.party`" in done.out
        assert b"E309" not in done.out
        assert b"[E309]" in run("claims", "--details", "--config", path).out


def test_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"canary of no database" * 1000)
    done = run("claims", "--data", tmp_path, "--json")
    verdicts = _each(done.json, "verdict")
    assert (done.code, verdicts["no-sale"], verdicts["no-content"]) == (1, "broken", "unproven")
    assert b"[E507]" in done.err
    assert b"canary of" not in done.err + done.out
    assert {path.name for path in tmp_path.iterdir()} == {"spool.db", "verdicts.json"}


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger cannot note the check; that is unproven, and not a failure."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver(range(3))

    def refuse(*_: object) -> None:
        raise ConfigError("E203", "the data directory cannot be written")

    monkeypatch.setattr("collector.claims.verification.note", refuse)
    done = run("claims", "--config", lives.config_file, "--json")
    assert (done.code, done.err) == (1, b"")
    (said,) = done.json["checks"]["ledger"]
    assert said == "The ledger could not note that records were read, as it cannot be written."
    assert {each["verdict"] for each in done.json["claims"]} == {"holds", "unproven"}


def test_a_configuration_that_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "collector.yaml"
    path.write_text("nonsense: 1")
    assert run("claims", "--config", path).code == 78


def test_only_some(tmp_path: Path) -> None:
    """A build can ask for some claims; an unknown name is exit 2."""
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
    (tmp_path / "own.yaml").write_text(_OWN)
    path = tmp_path / "c.yaml"
    settings = {"data": str(tmp_path / "data"), "claims": str(tmp_path / "own.yaml")}
    path.write_bytes(orjson.dumps(settings))
    done = run("claims", "--verify", "--config", path, "--json")
    verdicts = _each(done.json, "verdict")
    assert list(verdicts)[-2:] == ["our-promise", "some-day"]
    assert (done.code, verdicts["our-promise"], verdicts["some-day"]) == (0, "holds", "missing")
    assert verdicts["no-content"] == "holds"


@for_each(
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
    """A shipped sentence cannot be replaced by a weaker one."""
    if own is not None:
        (tmp_path / "own.yaml").write_text(own)
    path = tmp_path / "c.yaml"
    path.write_bytes(orjson.dumps({"claims": str(tmp_path / "own.yaml")}))
    done = run("claims", "--config", path)
    assert (done.code, code in done.err) == (78, True), done.err
