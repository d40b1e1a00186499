"""A key that is passed on over and over by a process that is killed: no entry is lost, none is
without a signature, and no key comes that the one before has not signed.

``COLLECTOR_KILLS`` says how often; ``make nightly`` a thousand times.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.ledger import Note
from collector.spool import note
from tests.support.ledgers import check_ledger

_LIVES = int(os.environ.get("COLLECTOR_KILLS", "3"))
_LONGEST_SECONDS = 0.2
_CODE = """
import sys
from pathlib import Path
from collector.ledger import Note
from collector.spool import note, rotate
directory = Path(sys.argv[1])
while True:
    rotate(directory)
    note(directory, Note.of("read", command="store query", rows=1))
    print(flush=True)
"""


@pytest.mark.long
def test_it_survives_being_killed(tmp_path: Path) -> None:
    entries = 0
    for _ in range(_LIVES):
        command: list[str | Path] = [sys.executable, "-c", _CODE, tmp_path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0, _LONGEST_SECONDS))
            process.kill()
        note(tmp_path, Note.of("checkpoint", at="asked"))
        found = check_ledger(tmp_path / "spool.db")
        assert found.lost == []
        assert found.signed == found.entries >= entries + 3
        assert all(key.is_vouched for key in found.keys)
        entries = found.entries
    assert len(found.keys) > _LIVES
