"""``collector error``: every entry of the table, as text, JSON and on a terminal."""

from __future__ import annotations

from collector.codes import CODES
from tests.support.command import run
from tests.support.rows import for_each


@for_each("written", ["E307", "e307", "307", "[E307]"])
def test_an_entry(written: str) -> None:
    done = run("error", written)
    said, entry = done.out.decode(), CODES["E307"]
    assert done.code == 0
    assert said.startswith("E307")
    for text in (entry.title, entry.means, entry.why, entry.fix):
        assert text in said
    for example in (entry.bad, entry.good):
        assert all(line in said for line in example.splitlines())


def test_all_are_listed() -> None:
    lines = [line.strip() for line in run("error").out.decode().splitlines()]
    listed = [(code, CODES[code].title) for code in CODES]
    assert [tuple(line.split(None, 1)) for line in lines if line[:4] in CODES] == listed
    assert [(each["code"], each["title"]) for each in run("error", "--json").json] == listed
    for code, entry in CODES.items():
        assert run("error", code, "--json").json == {"code": code, **entry._asdict()}


@for_each("code", CODES)
def test_a_terminal(code: str) -> None:
    done = run("error", code, env={"FORCE_COLOR": "1", "TERM": "xterm"})
    assert done.code == 0
    assert CODES[code].title in done.out.decode()


@for_each(
    ("written", "nearest"), [("E439", "E435"), ("E999", "all"), ("E31", "E31"), ("none", "all")]
)
def test_an_unknown_code(written: str, nearest: str) -> None:
    done = run("error", written)
    assert (done.code, done.out) == (2, b"")
    assert nearest in done.err.decode()
    assert b"[E132]" in done.err
