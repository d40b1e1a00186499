"""Batches that a sink did not take: kept as they were, private, changed, and gone when told so."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from collector.contracts import Batch, Removal
from collector.errors import DeliveryError
from collector.filter.redaction import EVERYTHING
from collector.schema import load_schema
from collector.spool.set_aside import FILE_NAME, SetAside
from tests.spool.make import without

_LAYOUT = load_schema("conferencing").layout
_LEFT = b'{"n":2,"text":"left"}\n'
_BATCH = Batch(
    b"1" * 16, "2026-11-24T10:20:00Z", layout=_LAYOUT, payload=b"a\nb\n", granted=("security",)
)


def test_without_any_there_is_no_file(tmp_path: Path) -> None:
    """Nothing is made by looking, changing or removing."""
    aside = SetAside(tmp_path)
    aside.remove(1)
    assert (aside.all(), aside.rewrite([EVERYTHING])) == ([], [Removal()])
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_kept_as_it_was(tmp_path: Path) -> None:
    """Once for each sink, with its layout and purposes, for the owner only."""
    aside = SetAside(tmp_path)
    for sink in ("lake", "lake", "copy"):
        aside.add(sink, _BATCH)
    found = aside.all()
    assert [each.sink for each in found] == ["lake", "copy"]
    for each in found:
        assert each.batch.layout == _LAYOUT
        assert (each.batch.id, each.batch.payload) == (_BATCH.id, _BATCH.payload)
        assert (each.batch.received, each.batch.granted) == (_BATCH.received, ("security",))
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    aside.remove(found[0].number)
    assert [each.sink for each in aside.all()] == ["copy"]


def test_a_change_leaves_no_byte(tmp_path: Path) -> None:
    """Lines that go are gone, and batches without any."""
    aside = SetAside(tmp_path)
    secret = b'{"n":1,"text":"hunter2secret"}\n' * 500
    aside.add("lake", Batch(b"2" * 16, _BATCH.received, layout=_LAYOUT, payload=secret + _LEFT))
    aside.add("lake", Batch(b"3" * 16, _BATCH.received, layout=_LAYOUT, payload=secret))
    assert aside.rewrite([without(1)]) == [Removal(deleted=1000, batches=2)]
    assert [each.batch.payload for each in aside.all()] == [_LEFT]
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """It is an error of ours."""
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 1000)
    with pytest.raises(DeliveryError, match="E507"):
        SetAside(tmp_path).all()
