"""Compressed zeros: little to send, and much to decompress."""

from __future__ import annotations

import zlib
from functools import cache, reduce
from struct import pack

from collector.ingest.decompression import zstd_library

_BLOCK = bytes(16 << 20)
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_ZLIB_HEAD = b"\x78\x9c"


@cache
def zeros(name: str, blocks: int) -> bytes:
    """Return ``blocks`` times 16 MiB of zeros, compressed with gzip, deflate (in zlib's format) or
    zstd."""
    if name == "zstd":
        packer = zstd_library().ZstdCompressor()
        return b"".join([*(packer.compress(_BLOCK) for _ in range(blocks)), packer.flush()])
    if name == "gzip":
        check = reduce(lambda found, _: zlib.crc32(_BLOCK, found), range(blocks), 0)
        return _GZIP_HEAD + _deflated(blocks) + pack("<II", check, len(_BLOCK) * blocks)
    check = reduce(lambda found, _: zlib.adler32(_BLOCK, found), range(blocks), 1)
    return _ZLIB_HEAD + _deflated(blocks) + pack(">I", check)


def _deflated(blocks: int) -> bytes:
    """Compress a block so that it depends on no other block, then repeat it, which is quicker."""
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(_BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * blocks + packer.flush()
