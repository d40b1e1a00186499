"""The file of verdicts: whole or absent, its owner's alone, and never stronger than its check."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.claims.document import load_claims
from collector.claims.promises import Promise
from collector.claims.verdicts import FILE_NAME, has_only_verdicts, record, recorded
from collector.errors import DeliveryError

_NOW = datetime(2026, 12, 1, 3, 20, tzinfo=UTC)
_CLAIMS = load_claims()
_MADE = tuple(Promise(name, claim.text, "holds", "So.") for name, claim in _CLAIMS.items())


def test_what_was_recorded_is_told_with_its_age(tmp_path: Path) -> None:
    record(tmp_path, _MADE, "a", _NOW - timedelta(days=3))
    record(tmp_path, [replace(_MADE[0], verdict="broken", advice="Do.")], "a", _NOW)
    made, times = recorded(tmp_path, _CLAIMS, "a", _NOW)
    assert [each.verdict for each in made] == ["broken"] + ["holds"] * (len(made) - 1)
    assert (made[0].reason, made[0].advice) == ("So.", "Do.")
    assert {*times.values()} == {_NOW, _NOW - timedelta(days=3)}
    assert "3 days ago" in made[1].checked
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_another_configuration_or_sentence_is_unproven(tmp_path: Path) -> None:
    assert {each.verdict for each in recorded(tmp_path, _CLAIMS, "a", _NOW)[0]} == {"unproven"}
    record(tmp_path, _MADE, "a", _NOW)
    assert {each.verdict for each in recorded(tmp_path, _CLAIMS, "b", _NOW)[0]} == {"unproven"}
    other = {name: each.model_copy(update={"text": "Other."}) for name, each in _CLAIMS.items()}
    made, times = recorded(tmp_path, other, "a", _NOW)
    assert {each.verdict for each in made} == {"unproven"}
    assert times == {}


@given(st.binary(max_size=200), st.integers(min_value=0))
def test_no_other_file_is_believed(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / FILE_NAME).write_bytes(data)
    assert {each.verdict for each in recorded(folder, _CLAIMS, "a", _NOW)[0]} == {"unproven"}
    assert not has_only_verdicts(folder / FILE_NAME)
    record(folder, _MADE, "a", _NOW)
    assert has_only_verdicts(folder / FILE_NAME)
    whole = (folder / FILE_NAME).read_bytes()
    place = at % (len(whole) + 1)
    (folder / FILE_NAME).write_bytes(whole[:place] + b" " + whole[place:])
    assert len(recorded(folder, _CLAIMS, "a", _NOW)[0]) == len(_CLAIMS)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said, and the verdicts of before stay."""
    with pytest.raises(DeliveryError, match="E506"):
        record(tmp_path / "absent", _MADE, "a", _NOW)
    (tmp_path / FILE_NAME).symlink_to("elsewhere")
    assert recorded(tmp_path, _CLAIMS, "a", _NOW)[1] == {}
    record(tmp_path, _MADE, "a", _NOW)
    assert not (tmp_path / FILE_NAME).is_symlink()


def test_a_pipe_in_the_place_of_the_file(tmp_path: Path) -> None:
    """It is not waited for."""
    os.mkfifo(tmp_path / FILE_NAME)
    assert recorded(tmp_path, _CLAIMS, "a", _NOW)[1] == {}
    record(tmp_path, _MADE, "a", _NOW)
    assert has_only_verdicts(tmp_path / FILE_NAME)


def test_a_file_without_end(tmp_path: Path) -> None:
    record(tmp_path, _MADE, "a", _NOW)
    with (tmp_path / FILE_NAME).open("ab") as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    tracemalloc.start()
    assert recorded(tmp_path, _CLAIMS, "a", _NOW)[1] == {}
    assert not has_only_verdicts(tmp_path / FILE_NAME)
    record(tmp_path, _MADE, "a", _NOW)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20
    assert has_only_verdicts(tmp_path / FILE_NAME)


def test_two_that_record_at_once(tmp_path: Path) -> None:
    def again(which: int) -> None:
        for _ in range(50):
            record(tmp_path, [_MADE[which]], "a", _NOW)

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(again, range(2))] == [None, None]
    assert [*recorded(tmp_path, _CLAIMS, "a", _NOW)[1]] == [each.id for each in _MADE[:2]]


def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    """It has no verdicts, and none can be recorded."""
    (tmp_path / FILE_NAME).mkdir()
    assert recorded(tmp_path, _CLAIMS, "a", _NOW)[1] == {}
    with pytest.raises(DeliveryError, match="E506"):
        record(tmp_path, _MADE, "a", _NOW)


def test_a_verdict_of_the_future_counts_for_nothing(tmp_path: Path) -> None:
    """A clock that was set back makes nothing look newly checked."""
    record(tmp_path, _MADE, "a", _NOW + timedelta(hours=1))
    made, times = recorded(tmp_path, _CLAIMS, "a", _NOW)
    assert {each.verdict for each in made} == {"unproven"}
    assert times == {}
