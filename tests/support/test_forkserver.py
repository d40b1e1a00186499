"""The process that forks the children of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.forkserver import Nursery, begin

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_it_is_made_anew_where_it_was_killed(tmp_path: Path) -> None:
    """A test's time-out kills the process; later tests still get children."""
    for _ in range(2):
        with (tmp_path / "out").open("wb") as out:
            streams = (out.fileno(),) * 3
            begin("this", [], streams, tmp_path, dict(os.environ), ()).wait(60)
        assert b"Zen" in (tmp_path / "out").read_bytes()
        nursery = Nursery.of_this_process()
        assert nursery is Nursery.of_this_process()
        nursery._process.kill()
        nursery._process.wait(60)


def test_modules_are_found_as_an_interpreter_finds_them(tmp_path: Path) -> None:
    """Modules in a folder that the environment names are found too."""
    (tmp_path / "only_here.py").write_text("print('found', flush=True)")
    with (tmp_path / "out").open("wb") as out:
        streams = (out.fileno(),) * 3
        environ = os.environ | {"PYTHONPATH": str(tmp_path)}
        begin("only_here", [], streams, Path.cwd(), environ, ()).wait(60)
    assert (tmp_path / "out").read_bytes() == b"found\n"
