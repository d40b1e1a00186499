"""``collector init``: a configuration to begin with."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from collector.config import read
from collector.config.model import settings
from tests.cli.process import run


def test_every_setting_is_there_with_its_default(tmp_path: Path) -> None:
    """As it is, the file changes nothing; nor does it with each default written out."""
    file = tmp_path / "mine.yaml"
    assert run("init", file).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert len(re.findall(r"^ *#[a-z_]+:", text, re.MULTILINE)) == len(list(settings()))
    assert max(map(len, text.splitlines())) <= 100
    written = re.sub(r"^( *)#([a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)
    assert written.count("\n") == text.count("\n")
    (tmp_path / "written.yaml").write_text(written)
    defaults, commented = read(None, {}), read(file, {})
    placed = defaults.config.in_directory(tmp_path)
    assert commented.config == placed
    found = read(tmp_path / "written.yaml", {})
    assert found.config == placed
    assert "default" not in {found.origins["schema"], found.origins["limits.body"]}


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    """It is named, and not written to."""
    file = tmp_path / "mine.yaml"
    file.write_text("data: elsewhere\n")
    done = run("init", file)
    assert (done.code, b"E203" in done.err) == (78, True)
    assert file.read_text() == "data: elsewhere\n"
