"""``unpacked`` finds what a spool has compressed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from collector.spool import Spool
from collector.spool.tables import records_of
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_batches import entry, without
from tests.support.unpacked import every_byte

_CANARY = b"canary-in-a-large-batch"
_NUMBERS = range(4000)
_MOST_PAGES = 20
_PAGE = 4096


def test_a_text_deep_in_a_large_batch_is_found(tmp_path: Path) -> None:
    """In the log and in the file, until the text is erased."""
    path, log = tmp_path / "spool.db", tmp_path / "spool.db-wal"
    with Spool(path, sinks=["sink"]) as spool, closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM batches").fetchone()  # keeps the log whole
        chance = Random(7)
        records = [entry(each, text=chance.randbytes(99).hex()) for each in _NUMBERS]
        spool.put(*records, entry(-1, text=_CANARY.decode())).result(WAIT_SECONDS)
        ((payload,),) = query(path, "SELECT payload FROM batches")
        assert len(payload) > _MOST_PAGES * _PAGE
        assert _CANARY in (records_of(payload) or b"")
        assert _CANARY not in log.read_bytes()
        assert _CANARY in every_byte(log)
    assert _CANARY not in path.read_bytes()
    assert _CANARY in every_byte(tmp_path)
    with Spool(path, sinks=["sink"]) as spool:
        (done,) = spool.rewrite([without(-1)]).result(WAIT_SECONDS)
        assert (done.deleted, done.is_swept) == (1, True)
        left = every_byte(tmp_path)
        assert _CANARY not in left
        assert all(b'"n":%d' % each in left for each in (_NUMBERS[0], _NUMBERS[-1]))
