"""Output for people: tables that break no word, and the groups of commands."""

from __future__ import annotations

import re
import subprocess
import sys
from io import StringIO
from typing import Any

import typer.main
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from collector.cli.app import app
from collector.cli.console import new_table
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each

_WORD = st.text("abc.-_", min_size=1, max_size=30)
_CELL = st.lists(_WORD, max_size=6).map(" ".join)


@given(
    st.integers(1, 6).flatmap(
        lambda columns: st.lists(
            st.lists(_CELL, min_size=columns, max_size=columns), min_size=1, max_size=5
        )
    ),
    st.sampled_from([40, 80, 200]),
)
def test_no_word_of_a_table_is_broken(rows: list[list[str]], width: int) -> None:
    """No line is longer than the terminal, unless one word is."""
    table = new_table(*(f"h{number}" for number in range(len(rows[0]))))
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=width, highlight=False, soft_wrap=True).print(table)
    written = text.getvalue()
    words = written.split()
    for word in " ".join(cell for row in rows for cell in row).split():
        assert word in words
    longest = max((len(word) for word in words), default=0)
    for line in written.splitlines():
        assert len(line.rstrip()) <= width or longest > width - 6


_TABLES = [
    ("schema", "list"),
    ("schema", "show", "conferencing", "webrtc", "web"),
    ("schema", "capacity", "conferencing", "webrtc"),
    ("schema", "diff", "conferencing", "conferencing-strict"),
    ("schema", "catalogue", "check", "os-names"),
    ("config", "show"),
    ("config", "flows"),
]


@for_each("command", _TABLES)
def test_tables_fit_eighty_columns(command: tuple[str, ...]) -> None:
    narrow = run(*command, env={"COLUMNS": "80"}).out.decode()
    wide = run(*command, env={"COLUMNS": "1000"}).out.decode()
    bars = re.compile("[█▏▎▍▌▋▊▉]+")
    assert set(bars.sub("", wide).split()) <= set(bars.sub("", narrow).split())


def test_a_table_without_rows_has_its_headings() -> None:
    text = StringIO()
    table = new_table("a" * 30, "b" * 30)
    Console(file=text, width=40).print(table)
    assert text.getvalue().split() == ["a" * 30, "b" * 30]


def test_options_of_every_command_fit_eighty_columns() -> None:
    queue: list[tuple[list[str], Any]] = [([], typer.main.get_command(app))]
    for words, command in queue:
        inner = getattr(command, "commands", {})
        queue += [([*words, name], each) for name, each in inner.items()]
        if words in (["serve"], ["recording", "serve"]):  # they may replace the process of the test
            continue
        text = run(*words, "--help").out.decode()
        assert max(map(len, text.splitlines())) <= 80
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        names = {option for each in shown for option in each.opts if option[:2] == "--"}
        assert names <= set(re.findall(r"--[a-z-]+", text)), words


_LIGHT = """
import sys
from collector.cli import main

SERVER = {"grpc", "prometheus_client", "google.protobuf", "httptools", "uvloop"}
for words, heavy in (
    (["--version"], {"typer", "rich", "orjson"}),
    (["status", "--quiet", "--data", "none"], {"typer", "rich", "orjson", "msgspec"}),
    (["--help"], {"orjson", "msgspec", "ruamel", "collector.schema", "collector.config", *SERVER}),
    (["chek"], {"orjson", "msgspec", "ruamel", "collector.schema", "collector.config"}),
):
    sys.argv = ["collector", *words]
    try:
        main()
    except SystemExit as ended:
        print(words, ended.code, sorted(heavy.intersection(sys.modules)), file=sys.stderr)
"""


def test_little_is_loaded_for_little() -> None:
    """A health check runs every few seconds, so it must import little."""
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT], capture_output=True, check=True, timeout=WAIT_SECONDS
    )
    ended = [line for line in done.stderr.decode().splitlines() if line[:1] == "["]
    assert ended == [
        "['--version'] 0 []",
        "['status', '--quiet', '--data', 'none'] 1 []",
        "['--help'] 0 []",
        "['chek'] 2 []",
    ]
