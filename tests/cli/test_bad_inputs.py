"""Bad inputs and configurations: what is bound of the message of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.codes import CODES
from tests.cli.bad_inputs import CANARY, bound, table
from tests.support.command import run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a ledger and a store."""
    path = tmp_path_factory.mktemp("demo") / "demo"
    assert run("demo", "--data", path, "--events", 20).code == 0
    return path


_COMMANDS = ("config", "filter", "schema", "store")
"""Those with the most entries; the others are tried together."""


@pytest.mark.parametrize("command", [*_COMMANDS, "others"])
def test_each_is_told(command: str, demo: Path, tmp_path: Path) -> None:
    """The output explains the codes and shows no value."""
    tried = 0
    for number, entry in enumerate(table()):
        first = entry.command.split()[0]
        if command != (first if first in _COMMANDS else "others"):
            continue
        (folder := tmp_path / str(number)).mkdir()
        code, said, out = entry.tried(folder, demo)
        assert (code, bound(said)) == (entry.exit, bound(entry.says)), (entry.what, said)
        assert set(re.findall(r"\b(E[0-9]{3})\b", said)) <= set(CODES)
        assert CANARY not in said + out.decode()
        tried += 1
    assert tried > 10
