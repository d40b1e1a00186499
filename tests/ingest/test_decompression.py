"""Decompression: every encoding, cut short, gone on, and far too large."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import CODES
from collector.ingest.decompression import PIECE, Encoding, allowed, pieces, zstd_library
from collector.ingest.limits import MIB, IngestLimits
from collector.ingest.refusals import DAMAGED, INFLATED, TOO_LARGE, RequestRefused
from tests.ingest.zeros import zeros

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
    return b"".join(pieces(encoding, wire, limits))


@_EACH
@given(data=st.binary(max_size=3000).map(lambda data: data * 200))
def test_what_was_compressed_comes_out(name: str, data: bytes) -> None:
    """Every body that is not too large, also the empty one and those of several pieces."""
    encoding, compress = _COMPRESS[name]
    made = list(pieces(encoding, compress(data), _LIMITS))
    assert b"".join(made) == data
    assert all(len(piece) <= PIECE for piece in made)


@_EACH
@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(min_value=1))
def test_a_body_that_is_cut_short_is_damaged(name: str, data: bytes, cut: int) -> None:
    """Wherever it is cut, down to nothing at all."""
    encoding, compress = _COMPRESS[name]
    wire = compress(data)
    with pytest.raises(RequestRefused) as caught:
        _plain(encoding, wire[: -1 - cut % len(wire)])
    assert caught.value.refusal is DAMAGED
    assert caught.value.__context__ is None


@_EACH
@pytest.mark.parametrize("first", [b"", b"first" * 10, b"long " * 50_000], ids=len)
def test_there_is_one_member_and_nothing_after_it(name: str, first: bytes) -> None:
    """Neither another member, nor an empty one, nor anything else, near or far."""
    encoding, compress = _COMPRESS[name]
    for more in (compress(b"second"), compress(b""), b"\0", b"x" * 100_000):
        with pytest.raises(RequestRefused) as caught:
            _plain(encoding, compress(first) + more)
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
    """Are refused at the second."""
    encoding, compress = _COMPRESS[name]
    with pytest.raises(RequestRefused):
        _plain(encoding, compress(b"") * 1_000_000)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_it_may(name: str) -> None:
    """1 GiB of zeros is refused once it is too large; its decompressed pieces are released."""
    wire = zeros(name, 64)
    tracemalloc.start()
    try:
        with pytest.raises(RequestRefused) as caught:
            for _ in pieces(_COMPRESS[name][0], wire, _LIMITS):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.refusal is (INFLATED if len(wire) * 100 < _LIMITS.body else TOO_LARGE)
    assert peak < 24 * MIB


@_EACH
def test_one_piece_beyond_the_limit_at_most(name: str) -> None:
    """Yielded pieces are within the limit; the next one raises the refusal."""
    encoding, compress = _COMPRESS[name]
    limits = IngestLimits(body=MIB, ratio=100_000)
    seen: list[int] = []
    with pytest.raises(RequestRefused) as caught:
        seen.extend(map(len, pieces(encoding, compress(bytes(8 * MIB)), limits)))
    assert caught.value.refusal is TOO_LARGE
    assert sum(seen) <= MIB
    assert _plain(encoding, compress(bytes(MIB)), limits) == bytes(MIB)


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
    assert allowed(4 * MIB, _LIMITS) == 16 * MIB
    assert allowed(4 * MIB, IngestLimits(body=64 * MIB)) == 64 * MIB
    assert allowed(1, IngestLimits(body=10)) == 10


def test_a_window_larger_than_any_body_is_refused() -> None:
    """A zstd frame may ask for gigabytes of memory in its first bytes."""
    zstd = zstd_library()
    options = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    wire = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(RequestRefused) as caught:
        _plain("zstd", wire)
    assert caught.value.refusal is DAMAGED
    options = {zstd.CompressionParameter.window_log: 23}
    compressor = zstd.ZstdCompressor(options=options)
    assert _plain("zstd", compressor.compress(b"x" * 100) + compressor.flush()) == b"x" * 100


def test_refusals_say_nothing_of_the_body() -> None:
    """The exception is its code and its constant."""
    with pytest.raises(RequestRefused) as caught:
        _plain("gzip", b"canary-1234")
    assert caught.value.code in CODES
    assert "canary" not in f"{caught.value!r}{caught.value.args}"
