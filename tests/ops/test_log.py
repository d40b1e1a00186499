"""The log: constants and counts, whatever the callers pass."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from collector.errors import CAUSES, ConfigError
from collector.ops.error_log import LibraryLogHandler, place_of, type_of
from collector.ops.log import EVENTS, VALUES, EventName, allowlist_processor, fits
from collector.ops.requests import REFUSAL_CODES, REFUSING
from tests.ops.logs import log_to
from tests.support.rows import for_each

_ROOT = Path(__file__).parent.parent.parent
_SECRET = "hunter2secret"


def _lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_an_event_is_a_line_of_json() -> None:
    said = io.StringIO()
    log_to(said).write("sink_failing", sink="store", failures=3, cause="disk")
    (line,) = _lines(said)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    said_ = {"sink": "store", "failures": 3, "cause": "disk"}
    assert line == {"level": "warning", "event": "sink_failing", **said_}


def test_levels() -> None:
    """Events below the level are not written."""
    said = io.StringIO()
    log = log_to(said, "warning")
    log.write("stopping", signal=15)
    log.write("spool_failing")
    assert [line["event"] for line in _lines(said)] == ["spool_failing"]


def test_the_table_is_whole() -> None:
    """Every event has a name for type checkers, a level, and values of known kinds."""
    assert set(EVENTS) == set(get_args(EventName))
    assert {key for event in EVENTS.values() for key in event.carries} == set(VALUES)


_ANYTHING = st.one_of(
    st.text(), st.integers(), st.floats(), st.none(), st.binary(), st.lists(st.text())
)


@given(st.one_of(st.sampled_from(sorted(EVENTS)), st.text()), st.dictionaries(st.text(), _ANYTHING))
def test_nothing_unlisted_gets_through(name: str, values: dict[str, Any]) -> None:
    """The output of the processor is in the table, for any input."""
    out = allowlist_processor(None, "info", values | {"event": name})
    assert out["event"] in EVENTS
    assert out["level"] == EVENTS[out["event"]].level
    carried = set(out) - {"event", "level"}
    assert all(fits(EVENTS[out["event"]], key, out[key]) for key in carried)
    assert out["event"] == "unlisted" or out["event"] == name


@for_each("key", ["sink", "failures", "text", "exc_info", "error", "place"])
def test_texts_cannot_be_logged(key: str) -> None:
    """A text that is no listed word is left out, under whatever key."""
    said = io.StringIO()
    log: Any = log_to(said)
    log.write("sink_failing", **{key: f"{_SECRET} "})
    log.write("unexpected", **{key: f"{_SECRET} "})
    log.write(_SECRET, **{key: 1})
    assert _SECRET not in said.getvalue()
    assert [line["event"] for line in _lines(said)] == ["sink_failing", "unexpected", "unlisted"]


_REFUSED = st.dictionaries(
    st.tuples(st.sampled_from(REFUSING), st.sampled_from(REFUSAL_CODES)),
    st.integers(1, 300),
)


@given(st.lists(_REFUSED, max_size=4))
def test_refused_requests_are_lines(calls: list[dict[tuple[str, str], int]]) -> None:
    """One for each, up to a hundred at a time; beyond that, one for each receiver and code. The
    lines add up, and say no more than receiver and code."""
    said = io.StringIO()
    log, total = log_to(said, "debug"), Counter[tuple[str, str]]()
    for new in calls:
        before = said.getvalue().count("\n")
        total += Counter(new)
        log.refused(total.items())
        lines = said.getvalue().count("\n") - before
        assert lines == sum(new.values()) <= 100 or 100 < lines <= 100 + len(new)
    told = Counter[tuple[str, str]]()
    for line in _lines(said):
        told[line["receiver"], line["code"]] += line.get("times", 1)
        shown = {"time", "level", "event", "receiver", "code"}
        assert line.keys() - {"times"} == shown
    assert told == total


def test_refused_requests_are_said_at_debug_only() -> None:
    for level in ("info", "warning", "error"):
        said = io.StringIO()
        log_to(said, level).refused([(("http", "E411"), 3)])
        assert said.getvalue() == ""


def test_no_reader_holds_up_what_was_refused() -> None:
    """Into a pipe that nothing reads no more is written than it takes; the rest comes later, and
    all of it adds up."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "w") as to:
        log, times, told = log_to(to, "debug"), 0, 0
        for _ in range(50):
            times += 150
            log.refused([(("http", "E411"), times)])
        os.set_blocking(reading, False)
        while told < times:
            while (line := pipe.readline()) != b"":
                told += json.loads(line).get("times", 1)
            log.refused([(("http", "E411"), times)])
        assert told == times


class _Smuggler(str):
    """Looks like a listed word, and prints as something else."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("store")

    def __eq__(self, other: object) -> bool:
        return other == "store"


def test_look_alikes_are_no_words() -> None:
    assert not fits(EVENTS["sink_failing"], "sink", _Smuggler(_SECRET))
    assert fits(EVENTS["sink_failing"], "sink", "store")


def _raise(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return caught


class _Foreign(ValueError):
    """A foreign exception, whose name might be data."""


def test_an_unexpected_error_leaves_its_type_and_place() -> None:
    """Nothing of its text; a foreign type counts as its nearest known base."""
    said = io.StringIO()
    log = log_to(said)
    log.unexpected(_raise(_Foreign(_SECRET)))
    (line,) = _lines(said)
    assert (line["error"], line["place"], line["times"]) == ("ValueError", "elsewhere", 1)
    assert _SECRET not in said.getvalue()
    assert type_of(ConfigError) == "ConfigError"
    assert type_of(type(_SECRET, (Exception,), {})) == "Exception"
    assert type_of(type("ValueError", (Exception,), {})) == "Exception"


def test_the_place_is_one_of_ours() -> None:
    """Module and line of the innermost frame that is our code."""
    trace = None
    try:
        ConfigError.__reduce__  # noqa: B018
        from collector.config.values import plain_value  # noqa: PLC0415

        plain_value(None, 1)  # type: ignore[arg-type]
    except AttributeError as error:
        trace = error.__traceback__
    assert re.fullmatch(r"collector\.config\.values:\d+", place_of(trace))
    assert place_of(None) == "elsewhere"


def test_repetitions_are_said_seldom() -> None:
    """The first time, the second, the fourth and so on, with the number."""
    said = io.StringIO()
    log = log_to(said)
    for _ in range(1000):
        log.library("grpc._server")
    assert [line["times"] for line in _lines(said)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_a_log_that_nobody_reads() -> None:
    """No reason to stop."""
    closed = io.StringIO()
    closed.close()
    log_to(closed).write("spool_failing")


def test_libraries_are_counted_under_known_names() -> None:
    """A logger's name may be anything too."""
    said = io.StringIO()
    record = logging.LogRecord(_SECRET, logging.ERROR, "", 1, _SECRET, (), None)
    LibraryLogHandler(log_to(said)).handle(record)
    assert _lines(said)[0]["library"] == "other"
    assert _SECRET not in said.getvalue()


_HOSTILE = f"""
import asyncio, gc, logging, sys, threading, warnings
from collector.ops.error_log import LibraryLogHandler
from collector.ops.log import EventLog

early = logging.getLogger("grpc._server")
early.addHandler(logging.StreamHandler())
early.setLevel(logging.DEBUG)
LibraryLogHandler(EventLog("debug")).install()
early.debug("{_SECRET}")
early.error("%s %d", "{_SECRET}", "not a number")
logging.getLogger("{_SECRET}.new").critical("{_SECRET}", exc_info=ValueError("{_SECRET}"))
warnings.warn("{_SECRET}")

def fail():
    raise ValueError("{_SECRET}")

thread = threading.Thread(target=fail)
thread.start()
thread.join()

class Falling:
    def __del__(self):
        fail()

Falling()

async def forgotten():
    async def inner():
        fail()
    task = asyncio.create_task(inner())
    await asyncio.wait([task])
    del task
    gc.collect()

asyncio.run(forgotten())
fail()
"""


def test_nothing_else_of_the_process_writes() -> None:
    """Loggers, warnings, threads, destructors, forgotten tasks, the last exception: all of them
    are counted, and nothing of them is written."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", _HOSTILE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert _SECRET not in done.stderr + done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["event"] for line in lines} == {"library", "unexpected"}
    libraries = {line["library"] for line in lines if line["event"] == "library"}
    assert libraries >= {"grpc", "other", "asyncio", "warnings"}
    assert {line["error"] for line in lines if "error" in line} == {"ValueError"}


def test_the_documentation_lists_the_causes() -> None:
    """Each of the closed list has a line, and only these may be written."""
    text = (_ROOT / "docs" / "operating.md").read_text()
    table = text.partition("| cause | ")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| .{15,} \|$", table, re.MULTILINE)) == CAUSES
    assert not fits(EVENTS["sink_failing"], "cause", f"unreachable {_SECRET}")


@for_each("answer", ["SQLSTATE 28P01", "HTTP 403", "gRPC 14"])
def test_the_code_of_a_server_s_answer(answer: str) -> None:
    """It is written; nothing that a server may say besides is, however like a code it looks."""
    assert fits(EVENTS["sink_failing"], "answer", answer)
    for text in (
        f"{answer} {_SECRET}",
        f"{answer}\n",
        answer.lower(),
        "HTTP 999",
        "SQLSTATE abcde",
    ):
        assert not fits(EVENTS["sink_failing"], "answer", text)
