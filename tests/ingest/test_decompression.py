"""Decompression: every encoding, cut short, gone on, and far too large."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.errors import CODES
from collector.ingest.decompression import (
    INPUT,
    MOST_WINDOW,
    PIECE,
    Compressed,
    Encoding,
    allowed,
    most_memory,
    zstd_library,
)
from collector.ingest.limits import MIB, SMALL_BODY, IngestLimits
from collector.ingest.refusals import BODY_TOO_LARGE, DAMAGED, INFLATED, RequestRefused
from tests.support.rows import for_each
from tests.support.zeros import zeros

_LIMITS = IngestLimits()


def _raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


_COMPRESS: dict[str, tuple[Encoding, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zstd": ("zstd", lambda data: bytes(zstd_library().compress(data))),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", _raw_deflate),
}
_EACH = pytest.mark.parametrize("name", _COMPRESS)


def _plain(encoding: Encoding, wire: bytes, limits: IngestLimits = _LIMITS) -> bytes:
    found = Compressed(encoding, wire, limits)
    body = found.body()
    return found.body() or b"" if body is None else body


@_EACH
@given(data=st.binary(max_size=3000).map(lambda data: data * 200))
@example(data=bytes(PIECE + 100))  # raw: the input has ended where a piece has, not the output
def test_what_was_compressed_comes_out(name: str, data: bytes) -> None:
    """Every body that is not too large, also the empty one and those of several pieces."""
    encoding, compress = _COMPRESS[name]
    assert _plain(encoding, compress(data)) == data


@_EACH
@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(min_value=1))
@example(data=b"a", cut=-1)
@example(data=b"a", cut=-2)
def test_a_body_that_is_cut_short_is_damaged(name: str, data: bytes, cut: int) -> None:
    encoding, compress = _COMPRESS[name]
    wire = compress(data)
    with pytest.raises(RequestRefused) as caught:
        _plain(encoding, wire[: -1 - cut % len(wire)])
    assert caught.value.refusal is DAMAGED
    assert caught.value.__context__ is None


@_EACH
@pytest.mark.parametrize("first", [b"", b"first" * 10, b"long " * 50_000], ids=len)
def test_there_is_one_member_and_nothing_after_it(name: str, first: bytes) -> None:
    encoding, compress = _COMPRESS[name]
    for more in (compress(b"second"), compress(b""), b"\0", b"x" * 100_000):
        with pytest.raises(RequestRefused) as caught:
            _plain(encoding, compress(first) + more)
        assert caught.value.refusal is DAMAGED


@_EACH
def test_what_follows_a_member_at_the_border_of_the_input(name: str) -> None:
    """It is found where the next slice is read, if the member ends with a slice."""
    encoding, compress = _COMPRESS[name]
    noise, size = Random(0).randbytes(2 * INPUT), INPUT
    while excess := len(compress(noise[:size])) - INPUT:
        size -= excess
    wire = compress(noise[:size])
    assert _plain(encoding, wire) == noise[:size]
    for more in (b"x", compress(b"")):
        with pytest.raises(RequestRefused) as caught:
            _plain(encoding, wire + more)
        assert caught.value.refusal is DAMAGED


@_EACH
@given(noise=st.binary(max_size=200))
def test_noise_is_damaged_or_small(name: str, noise: bytes) -> None:
    """No bytes bring about anything but a refusal or a body."""
    encoding, _ = _COMPRESS[name]
    refusal = None
    try:
        assert len(_plain(encoding, noise)) <= MIB
    except RequestRefused as error:
        refusal = error.refusal
    assert refusal in (None, DAMAGED)


@_EACH
def test_a_million_empty_members(name: str) -> None:
    encoding, compress = _COMPRESS[name]
    with pytest.raises(RequestRefused):
        _plain(encoding, compress(b"") * 1_000_000)


@for_each("name", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_it_may(name: str) -> None:
    """1 GiB of zeros is refused once it is too large; its decompressed pieces are released."""
    wire = zeros(name, 64)
    tracemalloc.start()
    try:
        with pytest.raises(RequestRefused) as caught:
            _plain(_COMPRESS[name][0], wire)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.refusal is (INFLATED if len(wire) * 100 < _LIMITS.body else BODY_TOO_LARGE)
    assert peak < 24 * MIB


@_EACH
def test_a_body_has_a_limit(name: str) -> None:
    """A body of just the limit passes, and one byte more is refused."""
    encoding, compress = _COMPRESS[name]
    limits = IngestLimits(body=MIB, ratio=100_000)
    assert _plain(encoding, compress(bytes(MIB)), limits) == bytes(MIB)
    for size in (MIB + 1, 8 * MIB):
        with pytest.raises(RequestRefused) as caught:
            _plain(encoding, compress(bytes(size)), limits)
        assert caught.value.refusal is BODY_TOO_LARGE


def test_a_small_limit_is_found_at_once() -> None:
    """A body that may not be larger than a small one never begins again."""
    for most in (1000, SMALL_BODY):
        found = Compressed("deflate", zlib.compress(bytes(most + 1)), IngestLimits(body=most))
        with pytest.raises(RequestRefused) as caught:
            found.body()
        assert caught.value.refusal is BODY_TOO_LARGE


def test_a_size_that_is_stated_is_all_there_is_room_for() -> None:
    """Up to the limit it is believed; what grows beyond it, down to nothing, ends at once."""
    assert Compressed("gzip", gzip.compress(bytes(MIB)), IngestLimits(body=MIB)).most == MIB
    wire = gzip.compress(bytes(8 * MIB))[:-4] + bytes(4)
    tracemalloc.start()
    try:
        with pytest.raises(RequestRefused) as caught:
            _plain("gzip", wire)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert caught.value.refusal is DAMAGED


def test_what_an_event_loop_may_decompress() -> None:
    """Up to one piece, of a small body."""
    pieces = [
        Compressed("gzip", gzip.compress(bytes(size)), _LIMITS) for size in (PIECE, PIECE + 1)
    ]
    bodies = [Compressed("deflate", bytes(size), _LIMITS) for size in (SMALL_BODY, SMALL_BODY + 1)]
    assert [each.is_short for each in (*pieces, *bodies)] == [True, False, True, False]


@for_each("name", ["zlib", "raw"])
def test_a_body_without_a_size_is_small_at_first(name: str) -> None:
    """It needs little memory; if it is larger than that, it begins again, and may have all that the
    limits allow."""
    encoding, compress = _COMPRESS[name]
    found = Compressed(encoding, compress(bytes(SMALL_BODY)), _LIMITS)
    assert found.memory < MIB // 2
    assert found.body() == bytes(SMALL_BODY)
    found = Compressed(encoding, compress(bytes(SMALL_BODY + 1)), _LIMITS)
    assert found.memory < MIB // 2
    assert found.body() is None
    assert found.most == MIB < found.memory
    assert found.body() == bytes(SMALL_BODY + 1)


@_EACH
def test_short_bodies_may_be_as_repetitive_as_they_like(name: str) -> None:
    """1 MiB of nothing passes, though it shrank a thousandfold; 2 MiB do not."""
    encoding, compress = _COMPRESS[name]
    assert _plain(encoding, compress(bytes(MIB))) == bytes(MIB)
    with pytest.raises(RequestRefused) as caught:
        _plain(encoding, compress(bytes(2 * MIB)))
    assert caught.value.refusal is INFLATED


def test_heartbeats_pass() -> None:
    """A hundred honest heartbeats compress well, and are what the ratio leaves room for."""
    line = b'{"client.address":"203.0.113.7","os.type":"windows","event":"heartbeat"}\n'
    wire = gzip.compress(line * 6000)
    assert _plain("gzip", wire) == line * 6000
    assert len(line) * 6000 > 100 * len(wire)


def test_what_is_allowed() -> None:
    """1 MiB always, then a hundred times, at most the limit."""
    assert allowed(0, _LIMITS) == allowed(10_000, _LIMITS) == MIB
    assert allowed(20_000, _LIMITS) == 2_000_000
    assert allowed(4 * MIB, _LIMITS) == 8 * MIB
    assert allowed(1, IngestLimits(body=10)) == 10


def _frame(data: bytes, window: int, *, states: bool) -> bytes:
    zstd = zstd_library()
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window})
    if states:
        compressor.set_pledged_input_size(len(data))
    wire: bytes = compressor.compress(data) + compressor.flush()
    return wire


def test_a_window_larger_than_any_body_needs_is_refused() -> None:
    """A zstd frame may ask for gigabytes of memory in its first bytes: 8 MiB is the most."""
    for window in range(24, 32):
        with pytest.raises(RequestRefused) as caught:
            Compressed("zstd", _frame(b"x" * 100, window, states=False), _LIMITS)
        assert caught.value.refusal is DAMAGED
    for window in range(10, 24):
        wire = _frame(b"x" * 100, window, states=False)
        found = Compressed("zstd", wire, _LIMITS)
        assert found.body() == b"x" * 100
        assert 1 << window <= found.memory <= most_memory(MIB)
    beyond = bytearray(wire)
    beyond[5] += 1  # an eighth more
    with pytest.raises(RequestRefused):
        Compressed("zstd", bytes(beyond), _LIMITS)
    assert MOST_WINDOW == 1 << 23


@for_each(("flag", "length"), [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_each_length_of_a_stated_size(flag: int, length: int) -> None:
    """A frame of one segment states its size in 1, 2, 4 or 8 bytes (RFC 8878, 3.1.1.1.4), which is
    its window too: one above the limit is refused, and a header that is cut short is damaged."""
    size = 255 + 256 * (length == 2)
    stated = (size - 256 * (length == 2)).to_bytes(length, "little")
    head = b"\x28\xb5\x2f\xfd" + bytes([flag << 6 | 1 << 5]) + stated
    block = (size << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"  # the last one, of one byte
    found = Compressed("zstd", head + block, _LIMITS)
    assert (found.most, found.body()) == (size, b"x" * size)
    for number, name in enumerate((b"", b"\1", b"\1\1", b"\1\1\1\1")):  # of a dictionary
        for is_single, window in ((1, b""), (0, b"\0")):
            first = bytes([flag << 6 | is_single << 5 | number])
            named = Compressed("zstd", head[:4] + first + window + name + stated + block, _LIMITS)
            assert named.most == size or (flag, is_single) == (0, 0)  # which states none
    with pytest.raises(RequestRefused) as caught:
        Compressed("zstd", head[:-1], _LIMITS)
    assert caught.value.refusal is DAMAGED
    if length > 2:
        most = (1 << 8 * length - 1).to_bytes(length, "little")
        with pytest.raises(RequestRefused) as caught:
            Compressed("zstd", head[:5] + most + block, _LIMITS)
        assert caught.value.refusal is BODY_TOO_LARGE or caught.value.refusal is INFLATED


@given(data=st.binary(max_size=3000), times=st.integers(1, 300), window=st.integers(10, 23))
def test_what_a_frame_states_is_read(data: bytes, times: int, window: int) -> None:
    """The library's own reading of any frame, with a stated size or without."""
    plain = data * times
    for states in (False, True):
        wire = _frame(plain, window, states=states)
        found, known = Compressed("zstd", wire, _LIMITS), zstd_library().get_frame_info(wire)
        assert known.decompressed_size == (len(plain) if states else None)
        assert found.most == (len(plain) if states else SMALL_BODY)
        assert _plain("zstd", wire) == plain


def test_a_frame_of_one_segment_needs_its_size_as_window() -> None:
    magic, size = b"\x28\xb5\x2f\xfd", (1 << 20).to_bytes(4, "little")
    single = magic + bytes([2 << 6 | 1 << 5]) + size
    windowed = magic + bytes([2 << 6, 10 << 3]) + size
    assert (
        Compressed("zstd", single, _LIMITS).memory == Compressed("zstd", windowed, _LIMITS).memory
    )


@for_each("name", ["gzip", "zstd"])
def test_a_stated_size_is_kept_to(name: str) -> None:
    """A body that becomes more than it states is damaged; one that states too much is refused
    before anything of it is decompressed, where that is sure."""
    encoding, compress = _COMPRESS[name]
    wire = compress(bytes(100_000))
    assert Compressed(encoding, wire, _LIMITS).most == 100_000
    less = wire[:-4] + (99_999).to_bytes(4, "little")
    if name == "zstd":
        assert wire.count((100_000).to_bytes(4, "little")) == 1
        less = wire.replace((100_000).to_bytes(4, "little"), (99_999).to_bytes(4, "little"))
    found = Compressed(encoding, less, _LIMITS)
    assert found.most == 99_999
    with pytest.raises(RequestRefused) as caught:
        found.body()
    assert caught.value.refusal is DAMAGED
    if name == "zstd":
        with pytest.raises(RequestRefused) as caught:
            Compressed(encoding, compress(bytes(2 * MIB)), _LIMITS)
        assert caught.value.refusal is INFLATED


def _peak_of(encoding: Encoding, wire: bytes) -> tuple[int, int]:
    """How much a process grows that decompresses a body, and what is reserved for it."""
    program = """
import sys
from pathlib import Path
from collector.ingest.decompression import Compressed
from collector.ingest.limits import IngestLimits
from collector.ingest.refusals import RequestRefused
from collector.server import harden

harden()

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

wire = sys.stdin.buffer.read()
found = Compressed(sys.argv[1], wire, IngestLimits())
Compressed("zstd", bytes.fromhex("28b52ffd2000010000"), IngestLimits()).body()
before = peak()
try:
    found.body() or found.body()
except RequestRefused:
    pass
print(peak() - before, found.memory)
"""
    said = subprocess.run(
        [sys.executable, "-c", program, encoding], input=wire, stdout=subprocess.PIPE, check=True
    )
    grown, reserved = map(int, said.stdout.split())
    return grown, reserved


@cache
def _noise() -> bytes:
    """8 MiB that shrink to about a quarter."""
    return b"".join(zlib.crc32(b"%d" % number).to_bytes(4) * 4 for number in range(8 * MIB // 16))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "size",
    [3 * MIB, *(pytest.param(each, marks=pytest.mark.long) for each in (MIB, 2 * MIB, 5 * MIB))],
)
@pytest.mark.parametrize("window", [10, 23, None], ids=str)
def test_what_is_reserved_is_enough(window: int | None, size: int) -> None:
    """A process that decompresses a body grows by no more than what is reserved for it, whether the
    body states its size or not, and also where it becomes larger than it may."""
    if window is None:
        wires = [gzip.compress(_noise()[:size], 1), gzip.compress(_noise() + b" ", 1)]
    elif window == 10:
        wires = [_frame(_noise()[:size], window, states=True)]
    else:
        plains = (_noise()[:size], _noise() + b" ")
        wires = [_frame(plain, window, states=False) for plain in plains]
    for wire in wires:
        grown, reserved = _peak_of("gzip" if window is None else "zstd", wire)
        assert grown <= reserved


@for_each(("wire", "is_short"), [(50_000, True), (70_000, False)])
def test_much_that_becomes_little_is_not_short(wire: int, is_short: bool) -> None:
    """Blocks without content take as long as others: no event loop does megabytes of them."""
    packed, empty = gzip.compress(b"{}"), b"\x00\x00\x00\xff\xff"
    padded = packed[:10] + empty * (wire // len(empty)) + packed[10:]
    found = Compressed("gzip", padded, _LIMITS)
    assert found.most == 2
    assert found.is_short is is_short
    assert found.body() == b"{}"


def test_refusals_say_nothing_of_the_body() -> None:
    """The exception is its code and its constant."""
    with pytest.raises(RequestRefused) as caught:
        _plain("gzip", b"canary-1234")
    assert caught.value.code in CODES
    assert "canary" not in f"{caught.value!r}{caught.value.args}"


@pytest.mark.parametrize(("named", "is_"), [("gzip", "zlib"), ("zlib", "gzip"), ("raw", "gzip")])
def test_an_encoding_is_what_it_is_called(named: str, is_: str) -> None:
    """A body in another encoding than its header names is damaged."""
    with pytest.raises(RequestRefused) as caught:
        _plain(_COMPRESS[named][0], _COMPRESS[is_][1](b"x" * 100))
    assert caught.value.refusal is DAMAGED


def test_raw_deflate_with_padding() -> None:
    assert _plain("deflate", b"\x09\x01\x00\xfe\xffx") == b"x"
