"""The log comes into the file beside the commits: none of them writes it there, and none waits for
more than a little of it."""

from __future__ import annotations

from pathlib import Path
from secrets import token_urlsafe

import pytest

from collector.contracts import PendingBatch
from collector.errors import DeliveryError
from collector.spool import Spool, checkpoints
from collector.spool import spool as spool_module
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import fill, small_disk
from tests.support.make_batches import commit, drained, entry, told_checkpoints
from tests.support.unpacked import every_byte

_MIB = 1 << 20
_LOG = "spool.db-wal"


def _half_a_mib(number: int) -> PendingBatch:
    """Records that take half a MiB, also compressed."""
    return entry(number, text=token_urlsafe(_MIB // 2))


def test_no_commit_writes_the_log_into_the_file(path: Path) -> None:
    with told_checkpoints(), Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(-1))
        size = path.stat().st_size
        commit(spool, *(_half_a_mib(number) for number in range(32)))
        assert path.stat().st_size == size
        assert path.with_name(_LOG).stat().st_size > 16 * _MIB
    assert path.stat().st_size > 16 * _MIB


def test_the_log_is_written_while_commits_go_on(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        written = 0

        def grows() -> bool:
            nonlocal written
            commit(spool, _half_a_mib(written))
            written += 1
            return path.with_name(_LOG).stat().st_size < written * _MIB // 4

        wait_until(grows)
        assert drained(spool) == list(range(written))


def test_no_request_waits_for_much_of_the_log(path: Path) -> None:
    """The thread writes what came since it wrote some, until the log is too long."""
    with told_checkpoints(), Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(-1))
        size, number = path.stat().st_size, 0
        while path.stat().st_size == size:
            commit(spool, _half_a_mib(number))
            spool._checkpoints.is_due = number > 2
            number += 1
            assert number < 100
    assert number * _MIB // 2 > 8 * _MIB


def test_a_checkpoint_that_fails_has_the_file_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 1 << 40)
    monkeypatch.setattr(checkpoints, "_BUSY_SECONDS", 3600.0)
    monkeypatch.setattr(spool_module, "IDLE_SECONDS", 3600.0)
    with (
        small_disk(tmp_path / "small", megabytes=8) as place,
        Spool(place / "spool.db", sinks=["sink"]) as spool,
    ):
        commit(spool, *(_half_a_mib(number) for number in range(3)))
        fill(place / "ballast")
        monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 1)
        wait_until(lambda: not spool.state().is_ready)
        with pytest.raises(DeliveryError):
            spool.put(entry(-1))
        (place / "ballast").unlink()
        wait_until(lambda: spool.state().is_ready)
        commit(spool, entry(3))
        assert sorted(drained(spool)) == list(range(4))
        assert (spool.state().errors, spool.quarantined) == (1, [])


def test_what_is_put_until_the_file_is_closed_is_refused(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        with spool._checkpoints.paused():
            spool._fail(OSError())
            wait_until(lambda: spool.state().errors == 1)
            future = spool.put(entry(1))
        with pytest.raises(DeliveryError, match="E506"):
            future.result(WAIT_SECONDS)
        wait_until(lambda: spool.state().is_ready)
        commit(spool, entry(2))
        assert drained(spool) == [2]


def test_an_idle_log_is_emptied(path: Path) -> None:
    """No byte of a delivered batch is left in it."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1, text="canary"))
        assert drained(spool) == [1]
        wait_until(lambda: query(path, "SELECT count(*) FROM batches") == [(0,)])
        wait_until(lambda: path.with_name(_LOG).stat().st_size == 0)
        assert b"canary" not in every_byte(path.parent)
