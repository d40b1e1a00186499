"""Hostile schema documents: a schema loads or ``SchemaError`` is raised, and soon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import CODES, Fault, SchemaError
from collector.schema import load_schema, resources
from tests.schema.conftest import Faults
from tests.schema.faulty import TABLE
from tests.support.make_schemas import PLAIN, marked, one
from tests.support.rows import for_each

SOON = timedelta(seconds=60)
"""Far more than any of this takes, and far less than for ever."""
_SHIPPED = [(resources.shipped() / f"{name}.yaml").read_text("utf-8") for name in resources.names()]
_PIECES = st.sampled_from(
    [
        *"schema version fields kind from values pattern content chat purposes use tests".split(),
        *"keeps event null true .nan 1e999 -0 0x1F 0o7 07 1_0 2026-01-01 '' a .* é 💬 ٣".split(),
        *["\u2028", "\x85", "\ufeff", '"\\ud800"', '"\\0"', "\t", "\\", "@", "`", "'", '"'],
        *["{", "}", "[", "]", ": ", ":", ", ", "- ", "? ", "\n", "\n  ", "\n    ", "#"],
        *["&a ", "*a", "<<: ", "!!str ", "! ", "|\n", ">-\n", "---\n", "...\n", "%YAML 1.1\n---\n"],
    ]
)
_WORDS = st.sampled_from(
    ["{}", "[]", "null", "1", "-1", "1.5", "x", "[x, x]", "{x: x}", "''", "yes"]
)


@st.composite
def _mutations(draw: st.DrawFn) -> str:
    """A well-formed or faulty document of which parts are cut, doubled, moved or replaced."""
    known = [*_SHIPPED, PLAIN, *(marked(document)[0] for document in TABLE.values())]
    text = draw(st.sampled_from([document for document in known if len(document) < 10_000]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        other = draw(st.integers(0, len(text)))
        middle = draw(
            _PIECES | _WORDS | st.just(text[other : other + end - start]) | st.text(max_size=3)
        )
        text = text[:start] + middle + text[end:]
    return text


@st.composite
def _exchanged(draw: st.DrawFn) -> str:
    """A shipped document in which the values of some keys are of other types."""
    lines = draw(st.sampled_from(_SHIPPED)).splitlines()
    for _ in range(draw(st.integers(1, 6))):
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = f"{lines[number].partition(':')[0]}: {draw(_WORDS)}"
    return "\n".join(lines)


_PATTERNS = st.text(alphabet="ab(){}[]|?,-^.*+\\019", max_size=24).map(
    lambda pattern: one("kind: token, pattern: '{}'".format(pattern.replace("'", "''")))
)
_TEXTS = st.lists(_PIECES | st.text(max_size=4), max_size=40).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples."""
    return tmp_path_factory.mktemp("hostile") / "hostile.yaml"


@given(_TEXTS | _mutations() | _exchanged() | _PATTERNS)
@settings(deadline=SOON, max_examples=2 * settings().max_examples)
def test_any_document_loads_or_is_faulty(path: Path, text: str) -> None:
    path.write_bytes(text.encode(errors="surrogatepass"))
    lines = len(text.splitlines()) + 2
    for fault in _faults(path):
        assert fault.code in CODES
        assert fault.message
        assert fault.column >= 1
        assert 1 <= fault.line <= lines


def _faults(path: Path) -> tuple[Fault, ...]:
    try:
        schema = load_schema(path)
    except SchemaError as error:
        return error.faults or pytest.fail("no faults")
    assert schema.fields
    return ()


@for_each(
    "text",
    [
        "- " * 100_000,
        "[" * 200_000,
        "{a: " * 60_000,
        "? " * 100_000,
        ":" * 250_000,
        "'" * 250_000,
        "a: " + "b " * 120_000,
        "a: |\n" + "  b\n" * 60_000,
        "#" * 250_000,
        "a: &a [x]\n" + "".join(f"{c}: &{c} [{'*a,' * 9}]\n" for c in "bcdefghij"),
        "%A b\n" * 50_000,
        "\n".join(f"k{number}: 1" for number in range(4_000)),
        "! " * 100_000,
        "\t" * 200_000,
        "\ufeff" * 80_000,
    ],
)
def test_bombs(text: str, faults: Faults) -> None:
    start = thread_time()
    assert faults(text)
    assert thread_time() - start < SOON.total_seconds()


@for_each(
    "pattern",
    [
        "(" * 32 + "a{64}" + "){64}" * 32,
        "((((((){64}){64}){64}){64}){64}){64}",
        "(" + "|" * 4000 + "a){64}",
        "((a?){64}){32}",
        "[a-z]{0,64}" * 64,
        "(a|b){0,40}a(a|b){20}",
        "(([ -~]?){8}|([a-z]?){8}){8}".replace(" -~", "a-zA-Z0-9"),
        "(" + "|".join(f"[a-z]{{{n}}}[0-9]{{0,{64 - n}}}" for n in range(64)) + ")",
        "a" * 200_000,
    ],
)
def test_pattern_bombs(pattern: str, faults: Faults) -> None:
    start = thread_time()
    found = faults(one(f"kind: token, pattern: '{pattern}'"))
    assert {fault.code for fault in found} <= {"E116"}
    assert thread_time() - start < SOON.total_seconds()
