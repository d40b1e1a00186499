"""Bad inputs and configurations: what is bound of the message of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.codes import CODES
from tests.cli.bad_inputs import CANARY, BadInput, bound, table
from tests.cli.process import run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a ledger and a store."""
    path = tmp_path_factory.mktemp("demo") / "demo"
    assert run("demo", "--data", path, "--events", 20).code == 0
    return path


@pytest.mark.parametrize("entry", table(), ids=lambda entry: entry.what)
def test_each_is_told(entry: BadInput, demo: Path, tmp_path: Path) -> None:
    """The exit code, places, codes, counts and suggestions are those of the table; the codes are
    explained, and no value is shown."""
    code, said, out = entry.tried(tmp_path, demo)
    assert (code, bound(said)) == (entry.exit, bound(entry.says)), said
    assert set(re.findall(r"\b(E[0-9]{3})\b", said)) <= set(CODES)
    assert CANARY not in said + out.decode()
