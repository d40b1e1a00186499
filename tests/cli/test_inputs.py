"""Files and streams: whole lines out of any chunks, ranges that share nothing, damaged input."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cli import inputs
from collector.errors import InputError
from collector.ingest.decompression import zstd_library
from tests.support.raising import raises
from tests.support.rows import for_each

_LINES = st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=30)
_TEXTS = st.builds(
    lambda lines, end: b"\n".join(lines) + end, _LINES, st.sampled_from([b"", b"\n"])
)


def _reader(data: bytes, sizes: list[int]) -> inputs.Read:
    """A reader that gives chunks of the given sizes, whatever is asked for."""
    at, turns = 0, 0

    def read(most: int) -> bytes:
        nonlocal at, turns
        size = min(most, sizes[turns % len(sizes)])
        turns += 1
        at += size
        return data[at - size : at]

    return read


@given(_TEXTS, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_blocks_are_whole_lines_and_nothing_is_lost(data: bytes, sizes: list[int]) -> None:
    blocks = list(inputs.lines(_reader(data, sizes), 1000))
    assert b"".join(block for block, _ in blocks) == data
    assert sum(size for _, size in blocks) == len(data)
    assert all(block.endswith(b"\n") for block, _ in blocks[:-1])


@given(_TEXTS, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_long_lines_are_cut_beyond_the_limit_and_counted_whole(
    data: bytes, sizes: list[int]
) -> None:
    """A line over the limit comes out longer than the limit, once; others come out unchanged."""
    limit = 4
    blocks = list(inputs.lines(_reader(data, sizes), limit))
    assert sum(size for _, size in blocks) == len(data)
    expected = [line for line in data.split(b"\n") if line]
    got = [line for block, _ in blocks for line in block.split(b"\n") if line]
    assert len(got) == len(expected)
    for line, whole in zip(got, expected, strict=True):
        assert (
            line == whole if len(whole) <= limit else len(line) > limit and whole.startswith(line)
        )


@given(data=_TEXTS, step=st.integers(1, 40))
def test_ranges_share_no_line_and_leave_none_out(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, step: int
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "events.ndjson"
    path.write_bytes(data)
    out = b""
    with path.open("rb") as handle:
        for start in range(0, len(data), step):
            end = min(start + step, len(data))
            out += b"".join(block for block, _ in inputs.range_lines(handle, start, end, 1000))
    assert out == data


@for_each("suffix", [".gz", ".zst"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    data = b"line\n" * 100_000
    compress = gzip.compress if suffix == ".gz" else zstd_library().compress
    path = tmp_path / f"events.ndjson{suffix}"
    path.write_bytes(compress(data) + compress(data))
    with inputs.opened(path) as read:
        assert sum(len(block) for block, _ in inputs.lines(read, 1000)) == 2 * len(data)


@for_each("suffix", [".gz", ".zst"])
@for_each("damage", ["truncated", "garbage", "flipped"])
def test_damaged_input_is_an_error_of_ours(tmp_path: Path, suffix: str, damage: str) -> None:
    """Data before the damage is handed on before E422 is raised."""
    data = bytes(range(256)) * 4000
    if suffix == ".gz":
        packed = gzip.compress(data)
    else:
        packed = zstd_library().compress(
            data, options={zstd_library().CompressionParameter.checksum_flag: 1}
        )
    damaged = {
        "truncated": packed[:-10],
        "garbage": b"canary" + packed,
        "flipped": packed[:30] + bytes([packed[30] ^ 0xFF]) + packed[31:],
    }[damage]
    path = tmp_path / f"events{suffix}"
    path.write_bytes(damaged)
    with raises("E422", InputError) as caught, inputs.opened(path) as read:
        for _ in inputs.lines(read, 1000):
            pass
    assert "canary" not in str(caught.value)


def test_a_missing_file_is_an_error_of_ours() -> None:
    with raises("E101", InputError) as caught, inputs.opened(Path("no/a\n\x1bb.ndjson")):
        pass
    expected = "no/a\\n\\x1bb.ndjson cannot be opened: no such file or directory"
    assert caught.value.message == expected


def test_a_document_is_read_up_to_its_limit_only(tmp_path: Path) -> None:
    """One byte more than the limit is kept; the whole length is counted."""
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * 1_000_000)
    with inputs.opened(path) as read:
        text, size = inputs.document(read, 1000)
    assert (len(text), size) == (1001, 1_000_000)


@for_each(
    ("name", "form"),
    [
        *(("a.json", "json"), ("a.json.gz", "json"), ("a.ndjson", "ndjson")),
        *(("a.jsonl.zst", "ndjson"), ("a.log", "ndjson"), ("a", "ndjson")),
    ],
)
def test_the_form_follows_the_name(name: str, form: str) -> None:
    assert inputs.form_of(Path(name)) == form
