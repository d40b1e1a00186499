"""Verification: it holds as shipped, and each rule that is broken on purpose breaks its claims."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from collector import intake
from collector.claims import dry_run
from collector.claims.document import (
    CHECKS,
    RECORDING_CHECKS,
    SERVING_CHECKS,
    Check,
    Claim,
    load_claims,
)
from collector.claims.findings import ClaimFinding, Found, Verdict, verdict
from collector.claims.verification import check
from collector.config import load
from collector.contracts import Request
from collector.errors import ConfigFaults, SchemaError
from collector.filter import Filter
from collector.keyring import Keyring
from collector.ledger import Note, opened
from collector.pipeline import Pipeline
from collector.routing import Flows, changes, flows
from collector.schema import load_schema, resources
from collector.schema.names.scope import scope
from collector.schema.review import approve, read_copy
from collector.sinks.sink import ErasableSink
from collector.sinks.store import Store
from collector.spool import Spool, note
from collector.testing import canaries, scan
from tests.schema.test_review import STATED
from tests.support.database import query
from tests.support.ledgers import entries_of
from tests.support.populated import PopulatedDirectory
from tests.support.rows import for_each

_CLAIMS = {
    name: claim
    for name, claim in load_claims().items()
    if not set(claim.checks) & set(RECORDING_CHECKS)
}
"""Those about telemetry."""
_OPS = "{use: essential.service.operations, basis: contract, reason: Keep the call up}"
_REST = "purposes: [ops], retention: 30d, reason: Which systems to test on}"
_GOOD = "os.type: {kind: enum, values: [linux, windows], category: user.device, " + _REST
_ADS = "{use: marketing.advertising.third_party.targeted, basis: consent, reason: To earn money}"
_WIDE = "max_bits: 1\n"


def _token(name: str, pattern: str) -> str:
    """A field of a pattern, and of options after a comma."""
    text, _, more = pattern.partition(", ")
    options = f"{more}, " if more else ""
    return f"{name}: {{kind: token, pattern: '{text}', {options}category: user.device, {_REST}"


_SPELLING = "\n  ".join(
    _token(name, "[a-z]{3}") for name in ("os.build_id", "hw.model", "device.brand", "os.name")
)


def written(folder: Path, field: str = _GOOD, purpose: str = _OPS, more: str = "") -> Path:
    """A schema with this field and purpose."""
    path = folder / "sample.yaml"
    path.write_text(
        "schema: sample\nversion: 1.0.0\ntitle: A sample\nowner: privacy\n"
        f"{more}purposes:\n  ops: {purpose}\nfields:\n  {field}\n"
    )
    return path


def found(
    folder: Path, schema: str | Path = "conferencing", **sinks: Mapping[str, object]
) -> Found:
    """What the checks find of a configuration."""
    path = folder / "collector.yaml"
    settings = {"data": str(folder / "data"), "schema": str(schema), "sinks": sinks}
    path.write_bytes(orjson.dumps(settings))
    return checked(path, 4)


def checked(path: Path, number: int = 2) -> Found:
    """What the checks find of a file; those of processes that receive find nothing."""
    none: Found = dict.fromkeys(SERVING_CHECKS, ())
    return {**check(load(path), canaries(number), scan, meetings=20), **none}


def broken(outcome: Found, wanted: Verdict = "broken") -> set[str]:
    """The claims that are broken, or of another verdict."""
    verdicts = {name: verdict(claim, outcome) for name, claim in _CLAIMS.items()}
    assert "holds" not in verdicts.values() or None not in outcome.values()
    return {name for name, each in verdicts.items() if each == wanted}


def named(findings: tuple[ClaimFinding, ...] | None) -> set[str]:
    """The fields that findings name."""
    return {name for each in findings or () for name in re.findall("`([a-z._]+)`", each.message)}


def carried(by: Check | str) -> set[str]:
    """The claims that name a check, or a rule."""
    return {name for name, each in _CLAIMS.items() if by in (*each.checks, *each.rules)}


@for_each("schema", resources.names())
def test_it_holds_as_shipped(schema: str, tmp_path: Path) -> None:
    outcome = found(tmp_path, schema, ndjson={"path": str(tmp_path / "records")})
    fields = {name for name, text in scope(load_schema(schema)).outside.items() if text}
    assert named(outcome["review"]) == fields
    assert all(each.advice for each in outcome["review"] or ())
    assert all(each.is_note for each in outcome["stored"] or ()), "there is no data directory"
    assert {name for name, each in outcome.items() if each} <= {"review", "scope", "stored"}
    assert broken(outcome) == set()
    assert broken(outcome, "unproven") == (carried("review") if fields else set())
    assert bool(fields) == (schema in ("participants-qos", "web", "webrtc"))
    assert [path.name for path in tmp_path.iterdir()] == ["collector.yaml"]


SCHEMAS: list[tuple[str, dict[str, str]]] = [
    ("E301", {"purpose": _ADS}),
    ("E302", {"purpose": _OPS.replace("operations", "nonsense")}),
    ("E303", {"field": _GOOD.replace("user.device", "user.content.private")}),
    ("E302", {"field": _GOOD.replace("user.device", "user.nonsense")}),
    ("E305", {"field": _token("chat.text", "[0-9]{3}")}),
    ("E306", {"field": _token("device.serial", "[0-9]{3}")}),
    ("E310", {"field": _token("user.phone", "[0-9]{3}")}),
    ("E311", {"field": _token("os.build_id", "[a-z]{4}")}),
    ("E312", {"field": _token("os.blurb", "[a-z]{2}")}),
    ("E311", {"field": _SPELLING}),
    ("E307", {"more": _WIDE}),
    ("E308", {"more": "content: {chat: []}\n"}),
]
"""Schemas that break one rule each."""
THIRD = {"path": "a", "party": "third", "recipient": "Ads", "purposes": ["security"]}
SINKS: dict[str, Mapping[str, object]] = {"E309": THIRD}
"""Files of records that do."""


@for_each(("rule", "parts"), SCHEMAS)
def test_a_rule_of_schemas(rule: str, parts: dict[str, str], tmp_path: Path) -> None:
    """A document that breaks it breaks the claims that name it, and shows nothing of others."""
    outcome = found(tmp_path, written(tmp_path, **parts))
    assert outcome["policy"]
    assert {each.rule for each in outcome["policy"]} == {rule}
    assert broken(outcome) == carried(rule)
    assert outcome["canaries"] is None


@for_each("rule", SINKS)
def test_a_rule_of_sinks(rule: str, tmp_path: Path) -> None:
    """A third party that gets more than a law demands."""
    outcome = found(tmp_path, ndjson=SINKS[rule])
    assert {each.rule for each in outcome["flows"] or ()} == {rule}
    assert broken(outcome) == carried(rule) == {"no-third-party-ads", "no-sale"}


@pytest.mark.usefixtures("no_dry_run")
@for_each(
    ("also", "wanted"), [("", "broken"), (" also: sound,", "amended"), (" also: hue,", "amended")]
)
def test_what_is_collected_besides(also: str, wanted: Verdict, tmp_path: Path) -> None:
    """A field outside the sentence breaks it, unless the schema says so to the public; before
    somebody has approved it, nothing is proven."""
    count = "kind: integer, minimum: 0, maximum: 9, step: 1"
    field = f"audio.jitter: {{{count},{also} category: system,"
    said = 'also_collected: {sound: "We measure sound.", hue: "We measure colours."}\n'
    path = written(tmp_path, f"{_GOOD}\n  {field} {_REST}", more=said)
    outcome = found(tmp_path, path)
    unproven = "unproven" if also else "broken"
    assert verdict(load_claims()["needed-only"], outcome) == unproven
    assert verdict(load_claims()["no-content"], outcome) == "unproven"
    copy = tmp_path / "sample.reviewed.yaml"
    text = approve(read_copy(copy), load_schema(path), "audio.jitter", STATED, {})
    copy.write_text(text)
    outcome = found(tmp_path, path)
    assert verdict(load_claims()["needed-only"], outcome) == wanted
    assert verdict(load_claims()["no-content"], outcome) == "amended"
    assert any(each.amends for each in outcome["scope"] or ()) == (wanted == "amended")


def test_each_rule_is_broken_here() -> None:
    assert {*dict(SCHEMAS), *SINKS} == {rule for each in _CLAIMS.values() for rule in each.rules}


@for_each("check", [*CHECKS, *SERVING_CHECKS])
def test_what_a_check_finds_breaks_its_claims(check: Check) -> None:
    nothing: dict[Check, tuple[ClaimFinding, ...] | None] = dict.fromkeys(
        [*CHECKS, *SERVING_CHECKS], ()
    )
    assert broken({**nothing, check: (ClaimFinding("a"),)}) == carried(check)
    assert broken({**nothing, check: (ClaimFinding("a", is_open=True),)}) == set()
    assert broken({**nothing, check: (ClaimFinding("a", is_open=True),)}, "unproven") == carried(
        check
    )


@pytest.mark.usefixtures("no_dry_run")
def test_a_flow_that_is_computed_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the matrix says is looked at as well, not only whether it could be computed."""
    with monkeypatch.context() as patch:
        patch.setattr("collector.routing.LEGAL", "essential.service.security")
        assert broken(found(tmp_path, ndjson=THIRD)) == carried("E309")
    monkeypatch.setattr("collector.schema.policy.use_is_allowed", lambda _: True)
    outcome = found(tmp_path, written(tmp_path, purpose=_ADS))
    assert outcome["policy"] == ()
    assert {each.rule for each in outcome["flows"] or ()} == {"E301"}
    assert broken(outcome) == carried("flows")


def test_content_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that lets what is planted through is a leak, also where rules have a hole."""
    monkeypatch.setattr("collector.schema.checks.refusal", lambda *_, **__: None)
    for limit in ("LETTER_BITS", "LETTER_BITS_SCHEMA"):
        monkeypatch.setattr(f"collector.schema.checks.{limit}", 64)
    field = (
        "device.type: {kind: token, from: [participant.email], max_length: 40,"
        " category: user.device,"
        ' pattern: "canary-[0-9a-f]{8}-[0-9a-f]{6}(00|[0-9a-f]{2})@example[.]org", '
    )
    outcome = found(tmp_path, written(tmp_path, field + _REST))
    assert broken(outcome) == {"needed-only", "no-content", "no-monitoring"}
    assert outcome["canaries"]
    assert outcome["scope"]
    assert "canary-" not in str(outcome)


def test_a_search_that_finds_nothing(tmp_path: Path) -> None:
    """A search that cannot find a plant shows nothing."""
    outcome = check(
        load().model_copy(update={"data": tmp_path}), canaries(2), lambda *_: [], meetings=20
    )
    (finding,) = outcome["canaries"] or ()
    assert (finding.is_open, bool(finding.advice)) == (True, True)
    assert broken(outcome, "unproven") == carried("canaries")


def test_a_schema_that_admits_nothing(tmp_path: Path) -> None:
    """If nothing gets through, nothing is shown."""
    field = _GOOD.replace("os.type", "device.form_factor")
    outcome = found(tmp_path, written(tmp_path, field))
    assert broken(outcome) == set()
    assert broken(outcome, "unproven") == carried("canaries") | carried("delivery")


def test_a_field_that_goes_where_it_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink that is given more than the matrix says."""
    monkeypatch.setattr(Flows, "reaching", lambda *_: None)
    processor = {"party": "processor", "recipient": "A", "purposes": ["security"]}
    outcome = found(tmp_path, ndjson={"path": "a", **processor})
    assert broken(outcome) == {"no-third-party-ads", "no-sale", "cookie-preference"}
    assert {"ndjson", "os.type"} <= named(outcome["delivery"])


def test_a_refusal_that_is_not_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is for optional purposes alone must be nowhere where they are refused."""
    monkeypatch.setattr(intake, "_refused", lambda *_: ())
    outcome = found(tmp_path, store={"purposes": ["capacity_planning"]})
    assert broken(outcome) == {"cookie-preference"}
    assert {"store", "os.name"} <= named(outcome["consent"])
    assert broken(found(tmp_path, written(tmp_path))) == set(), "nothing of it is optional"


def test_pruning_that_does_not_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too old must go, out of each sink."""
    monkeypatch.setattr(dry_run, "prune_all", lambda *_: None)
    assert broken(found(tmp_path, ndjson={"path": "a"})) == set(), "sinks prune themselves"
    monkeypatch.setattr(ErasableSink, "idle", lambda _: None)
    assert broken(found(tmp_path, ndjson={"path": "a"})) == {"needed-only"}
    assert broken(found(tmp_path)) == {"needed-only"}


def _delivered(folder: Path, age: timedelta) -> Path:
    """A store and a ledger with an event of so long ago."""
    data, schema = folder / "data", load_schema("conferencing")
    with Store(data / "store.db", schema) as store:
        spool = Spool(data / "spool.db", sinks=["store"])
        pipeline = Pipeline(Filter(schema, keys=Keyring()), spool, {"store": store})
        pipeline.start()
        pipeline.accept_now(Request("json", b'{"ip": "203.0.113.7", "os": {"type": "linux"}}'))
        pipeline.close(10)
        spool.close()
    with closing(sqlite3.connect(data / "store.db")) as db, db:
        minute = f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:00Z}"
        db.execute("UPDATE conferencing SET received = ?", (minute,))
    return data


@pytest.mark.usefixtures("no_dry_run")
@pytest.mark.parametrize(("days", "expected"), [(29, 0), (31, 2), (91, 3)])
def test_a_store_that_was_not_pruned(days: int, expected: int, tmp_path: Path) -> None:
    """Each field that has outlived its time in the data directory is told."""
    _delivered(tmp_path, timedelta(days=days))
    outcome = found(tmp_path)
    wanted = {*["store", "client.address", "os.type"][:expected]}
    assert named(outcome["retention"]) == wanted
    assert broken(outcome) == ({"needed-only"} if expected else set())
    assert "203.0" not in str(outcome)


@pytest.mark.usefixtures("no_dry_run")
def test_a_store_that_keeps_for_longer(tmp_path: Path) -> None:
    """A retention that the schema has shortened counts, also before the store was opened with it;
    and a table without any is told."""
    data = _delivered(tmp_path, timedelta(days=31))
    query(
        data / "store.db",
        "UPDATE _retention SET seconds = 10 * seconds",
        "CREATE TABLE older (received TEXT, os TEXT)",
        "INSERT INTO older VALUES ('2020-01-01T00:00:00Z', 'x')",
    )
    outcome = found(tmp_path)
    late, unruled = [each.message for each in outcome["retention"] or ()]
    assert "`client.address`" in late
    assert "1 rows of schemas whose retention is unknown" in unruled
    assert broken(outcome) == {"needed-only"}


@pytest.mark.usefixtures("no_dry_run")
def test_a_spool_and_files_that_were_not_pruned(tmp_path: Path) -> None:
    """What waits, and what lies in files of records, is looked at too."""
    populated = PopulatedDirectory(tmp_path)
    populated.deliver_aged((range(5), 29), (range(5, 7), 32))
    populated.spool(range(3), days=31)
    outcome = checked(populated.config_file)
    late = [each.message for each in outcome["retention"] or ()]
    assert [re.findall("[0-9]+", each) for each in late] == [["2"], ["2"], ["3"]]
    assert named(outcome["retention"]) == {"client.address", "ndjson", "store"}


@pytest.mark.usefixtures("no_dry_run")
def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A store or files that cannot be read show nothing."""
    populated = PopulatedDirectory(tmp_path)
    populated.deliver_aged((range(5), 0))
    populated.lines.unlink()
    populated.lines.mkdir()
    outcome = checked(populated.config_file)
    assert broken(outcome) == set()
    assert broken(outcome, "unproven") == carried("retention") | carried("stored")
    (populated.data / "store.db").write_bytes(b"nothing of a database" * 1000)
    outcome = checked(populated.config_file)
    assert [each.is_open for each in outcome["retention"] or ()] == [True]
    assert named(outcome["retention"]) == {"store"}


@pytest.mark.usefixtures("no_dry_run")
def test_a_ledger_that_was_changed(tmp_path: Path) -> None:
    """The ledger of the data directory is verified, and one that cannot be read is a fault."""
    data = _delivered(tmp_path, timedelta(0))
    assert broken(found(tmp_path)) == set()
    query(data / "spool.db", "UPDATE receipts SET received = 2, malformed = 1")
    for _ in range(2):
        assert broken(found(tmp_path)) == carried("ledger"), "and it is not put right"
    (data / "spool.db").write_bytes(b"nothing of a database" * 1000)
    assert broken(found(tmp_path)) == carried("ledger")
    assert list(data.glob("*.damaged-*")) == []


def test_signatures_that_nobody_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _delivered(tmp_path, timedelta(0))
    monkeypatch.setattr("collector.ledger.stored.signature_check", lambda: None)
    assert broken(found(tmp_path), "unproven") == carried("ledger") | carried("stored")


@pytest.mark.usefixtures("no_dry_run")
def test_a_ledger_that_is_gone(tmp_path: Path) -> None:
    data = _delivered(tmp_path, timedelta(0))
    (data / "spool.db").unlink()
    outcome = found(tmp_path)
    assert [each.is_open for each in outcome["ledger"] or ()] == [True]
    assert broken(outcome, "unproven") == carried("ledger")
    assert not (data / "spool.db").exists()


@pytest.mark.usefixtures("no_dry_run")
def test_reading_the_store_is_noted(tmp_path: Path) -> None:
    data = _delivered(tmp_path, timedelta(0))
    assert broken(found(tmp_path)) == set()
    with Spool(data / "spool.db"):
        assert broken(found(tmp_path)) == set()
    noted = [dict(entry.facts) for entry in entries_of(data / "spool.db", "read")]
    assert noted == [{"command": "claims", "rows": "1"}] * 2
    (data / "store.db").unlink()
    assert broken(found(tmp_path)) == set()
    with opened(data / "spool.db") as ledger:
        assert len([entry for entry in ledger.entries() if entry.kind == "read"]) == 2


@pytest.mark.usefixtures("no_dry_run")
def test_another_schema_than_the_one_that_runs(tmp_path: Path) -> None:
    """What is shown of one schema shows nothing of another; the same of flows, where they differ in
    what reaches whom."""
    data = _delivered(tmp_path, timedelta(0))
    conferencing = load_schema("conferencing")
    matrix = flows(load(), conferencing)
    settings = changes.document(matrix) + b"\n{}"
    note(
        data,
        Note.of("schema", document=conferencing.document, change="first"),
        Note.of("configuration", document=settings, change="first"),
    )
    assert broken(found(tmp_path), "unproven") == set(), "only the place of the store is another"
    outcome = found(tmp_path, ndjson={"path": str(tmp_path / "records")})
    assert broken(outcome, "unproven") == carried("flows")
    outcome = found(tmp_path, "web")
    assert broken(outcome, "unproven") == carried("policy") | carried("flows")
    assert broken(outcome) == set()


def test_counts_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the filter counts and what the ledger holds must be the same."""
    monkeypatch.setattr("collector.spool.spool.add_to_sums", lambda *_: None)
    outcome = found(tmp_path)
    assert [each.is_open for each in outcome["ledger"] or ()] == [False]


def test_other_faults_are_no_verdict(tmp_path: Path) -> None:
    """A document that breaks no public rule but cannot be used is a fault of its own."""
    with pytest.raises(SchemaError, match="E107"):
        found(tmp_path, written(tmp_path, _GOOD.replace("enum", "text")))
    with pytest.raises(ConfigFaults, match="E132"):
        found(tmp_path, store={"purposes": ["nonsense"]})


def test_a_claim_with_a_check_that_did_not_run() -> None:
    """It is unproven; and so is one whose check found a rule broken that it does not name."""
    whole = load_claims()["needed-only"]
    claim = Claim(**{**whole.model_dump(), "checks": ("policy", "canaries")})
    assert verdict(claim, {"policy": (), "canaries": None}) == "unproven"
    assert verdict(claim, {"policy": (ClaimFinding("a", "E305"),), "canaries": ()}) == "unproven"
    assert verdict(claim, {"policy": (ClaimFinding("a", "E306"),), "canaries": None}) == "broken"
    assert verdict(claim, {"policy": (), "canaries": (ClaimFinding("a"),)}) == "broken"
    assert verdict(claim, {"policy": (), "canaries": ()}) == "holds"
