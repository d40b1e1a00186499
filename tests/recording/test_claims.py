"""The checks of what is said of recordings: they hold, and each rule that is broken is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from collector.claims.document import (
    RECORDING_CHECKS,
    RECORDING_COUNTERS,
    REFUSALS,
    Check,
    load_claims,
)
from collector.claims.findings import ClaimFinding, verdict
from collector.recording import Recorder, claims, dry_run, refusals
from collector.recording.claims import Place, counts, look
from collector.testing import canaries, scan
from tests.recording.broken_rules import BROKEN
from tests.support.database import query

_CLAIMS = {
    name: claim
    for name, claim in load_claims().items()
    if set(claim.checks) & set(RECORDING_CHECKS)
}


def _no_search(places: Iterable[Path], texts: Sequence[str]) -> bool:
    """Find the plant only."""
    return [place.name for place in places] == ["plant"]


def verdicts(found: Mapping[Check, tuple[ClaimFinding, ...]]) -> dict[str, str]:
    """The verdicts on the claims about recordings."""
    outcome = {check: found.get(check, ()) for check in RECORDING_CHECKS}
    return {name: verdict(claim, outcome) for name, claim in _CLAIMS.items()}


def test_the_tables_agree() -> None:
    """Rules are refusals of the recorder, each of them can be broken here, and each check is one
    of the trials."""
    assert set(REFUSALS) <= refusals.REFUSALS.keys()
    assert {rule for claim in _CLAIMS.values() for rule in claim.rules} == set(REFUSALS)
    assert {name.partition(" ")[0] for name in BROKEN} == set(REFUSALS)
    assert tuple(dry_run.TRIALS) == RECORDING_CHECKS


def test_they_hold(tmp_path: Path) -> None:
    """In recordings made for it."""
    found = dry_run.run(tmp_path, canaries(1)[0], scan)
    assert set(verdicts(found).values()) == {"holds"}
    assert found == dict.fromkeys(RECORDING_CHECKS, ())


@pytest.mark.parametrize("broken", BROKEN)
def test_a_rule_that_is_not_kept(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorder that takes or shows what it must not breaks a claim that names the rule."""
    rule = broken.partition(" ")[0]
    naming = {name: claim for name, claim in _CLAIMS.items() if rule in claim.rules}
    checks = [check for claim in naming.values() for check in claim.checks]
    BROKEN[broken](monkeypatch)
    monkeypatch.setattr(dry_run, "TRIALS", {each: dry_run.TRIALS[each] for each in checks})
    found = dry_run.run(tmp_path, "canary-1", _no_search)
    assert rule in {each.rule for findings in found.values() for each in findings}
    assert "broken" in {verdicts(found)[name] for name in naming}
    assert "canary" not in str(found)


def test_content_on_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds something breaks it, and one that finds nothing shows nothing."""
    monkeypatch.setattr(dry_run, "TRIALS", {"storage": dry_run.TRIALS["storage"]})
    for is_found, expected in ((True, "broken"), (False, "unproven")):
        folder = tmp_path / expected
        folder.mkdir()
        found = dry_run.run(folder, "canary-1", lambda *_, hit=is_found: hit)
        assert verdicts(found)["local-or-cloud"] == expected


# -- a recorder's directory -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def _used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a recorder, with a closed recording of a member who stays."""
    trial = dry_run.TrialRecorder(tmp_path_factory.mktemp("used") / "recorder", "canary-1")
    with closing(trial.recorder):
        trial.stay("guest-1")
        trial.control("start")
        trial.send("guest-1")
        trial.control("stop")
        trial.read("guest-1")
    return trial.directory


@pytest.fixture
def used(_used: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(_used, tmp_path / "recorder"))


def findings(directory: Path) -> dict[str, list[str]]:
    """What is found in a directory, by check."""
    found: dict[str, list[str]] = {}
    for check, finding in claims.directory_findings(Place(directory)):
        assert "canary" not in finding.message
        assert "guest-1" not in finding.message
        found.setdefault(check, []).append(finding.message)
    return found


def test_a_directory_in_use(used: Path) -> None:
    """It holds, with its counts."""
    with closing(Recorder(used)):
        assert findings(used) == {}
        assert counts(used) == {
            "recordings": {"kept": 1, "unstarted": 0, "erased": 0},
            "choices": {"stay": 1, "leave": 0, "withdraw": 0},
            "accesses": {"done": 1, "refused": 0},
        }
    assert tuple(counts(used) or ()) == RECORDING_COUNTERS
    assert counts(used / "nothing") is None


def _edit(path: Path, statement: str) -> None:
    query(path, statement)


def _sealed(directory: Path) -> Path:
    (found,) = directory.rglob("*.age")
    return found


def _flip(directory: Path) -> None:
    sealed = _sealed(directory)
    data = bytearray(sealed.read_bytes())
    data[-1] ^= 1
    sealed.write_bytes(data)


def _left(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"canary-1")


ATTACKS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a file that others may read": (lambda of: _sealed(of).chmod(0o644), {"access"}),
    "a directory that others may read": (lambda of: of.chmod(0o755), {"access"}),
    "a bit": (_flip, {"access"}),
    "an object that is gone": (lambda of: _sealed(of).unlink(), {"access"}),
    "a file of another program": (lambda of: _left(of / "said.wav"), {"storage"}),
    "one among the sealed": (
        lambda of: _left(_sealed(of).with_name("said.wav")),
        {"storage", "access"},
    ),
    "a link": (lambda of: (of / "more").symlink_to("/"), {"storage"}),
    "a recording after its time": (
        lambda of: _edit(of / "recorder.db", "UPDATE tasks SET due = 1"),
        {"storage"},
    ),
    "a recording without its grant": (
        lambda of: _edit(of / "recorder.db", "DELETE FROM recordings"),
        {"access", "grant"},
    ),
    "a recording that nothing erases": (
        lambda of: _edit(of / "recorder.db", "DELETE FROM tasks"),
        {"storage"},
    ),
    "a ledger that was changed": (
        lambda of: _edit(of / "recorder.db", "DELETE FROM entries WHERE kind = 'recording'"),
        {"grant", "notice", "choice", "access"},
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_directory_that_was_changed(used: Path, name: str) -> None:
    """It breaks what denies it, or leaves it unproven."""
    attack, checks = ATTACKS[name]
    attack(used)
    assert set(findings(used)) == checks


def test_a_directory_that_cannot_be_read(used: Path) -> None:
    """Nothing is shown then."""
    (used / "recorder.db").write_bytes(b"no database" * 1000)
    assert set(verdicts(look(Place(used))).values()) == {"unproven"}


def test_a_directory_whose_list_is_gone(used: Path) -> None:
    """Recordings may be there all the same."""
    (used / "recorder.db").unlink()
    assert set(verdicts(look(Place(used))).values()) == {"unproven"}


def test_a_directory_without_recordings(tmp_path: Path) -> None:
    """It is noted, and makes no difference."""
    found = look(Place(tmp_path / "recorder"))
    assert {each.is_note for findings in found.values() for each in findings} == {True}
    assert set(verdicts(found).values()) == {"holds"}
    assert list(tmp_path.iterdir()) == []
