"""``scan`` finds what is planted, in every encoding and place, and nothing where nothing is."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import socket
import sqlite3
import sys
import tracemalloc
import urllib.parse
import zlib
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector import ConfigError, InputError
from collector.ingest.decompression import zstd_library
from collector.testing import Hit, _search, canaries, scan
from tests.support.raising import raises
from tests.support.rows import for_each

ZSTD = zstd_library()
CANARIES = canaries(40)
CANARY = CANARIES[7]
RANDOM = random.Random(1)
NOISE = RANDOM.randbytes(3000)
HARD = 'Grüße "😀"/\\ über 100%'
"""A canary that has to be escaped wherever anything is."""


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def mixed(text: str) -> bytes:
    """Some characters escaped as in JSON, some not."""
    return "".join(c if n % 3 else f"\\u{ord(c):04X}" for n, c in enumerate(text)).encode()


ENCODINGS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "plain": ("plain", str.encode),
    "reversed": ("reversed", lambda text: text[::-1].encode()),
    "utf-16-le": ("utf-16-le", lambda text: text.encode("utf-16-le")),
    "utf-16-be": ("utf-16-be", lambda text: text.encode("utf-16-be")),
    "hex-lower": ("hex", lambda text: text.encode().hex().encode()),
    "hex-upper": ("hex", lambda text: text.encode().hex().upper().encode()),
    "json-mixed": ("json", mixed),
    "json-all-lower": ("json", lambda text: "".join(f"\\u{ord(c):04x}" for c in text).encode()),
    "json-twice": ("json", lambda text: json.dumps(mixed(text).decode()).encode()),
    "percent-all": ("percent", lambda text: b"".join(b"%%%02X" % b for b in text.encode())),
    "percent-lower": ("percent", lambda text: b"%%%02x%s" % (ord(text[0]), text[1:].encode())),
    "base64-0": ("base64", lambda text: b64encode(text.encode() + b"more")),
    "base64-1": ("base64", lambda text: b64encode(b"a" + text.encode() + b"more")),
    "base64-2": ("base64", lambda text: b64encode(b"ab" + text.encode())),
    "base64-wrapped": ("base64", lambda text: encodebytes(b"a" * 49 + text.encode() + b"b" * 99)),
    "base64-in-json": (
        "base64",
        lambda text: json.dumps(encodebytes(b"a" * 49 + text.encode()).decode()).encode(),
    ),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zstd": ZSTD.compress,
}


@for_each("way", ENCODINGS)
def test_each_encoding_is_found(way: str, tmp_path: Path) -> None:
    encoding, encode = ENCODINGS[way]
    (tmp_path / "file").write_bytes(NOISE + b"\n" + encode(CANARY) + b"\n" + NOISE)
    (hit,) = scan(tmp_path, CANARIES)
    assert hit[:3] == (tmp_path / "file", CANARY, encoding)
    assert len(NOISE) <= hit.offset <= len(NOISE) + 70


def test_the_place_is_exact(tmp_path: Path) -> None:
    """The offset is that of the first byte, line ends inside base64 notwithstanding."""
    plain = b"a" * 10 + CANARY.encode()
    text = b"x\n" * 50 + CANARY[::-1].encode() + plain + b"\n" + encodebytes(b"b" * 51 + plain)
    (tmp_path / "file").write_bytes(text)
    found = {hit.encoding: hit.offset for hit in scan(tmp_path / "file", [CANARY])}
    assert found["reversed"] == 100
    assert found["plain"] == 100 + len(CANARY) + 10
    # 61 bytes before it are 81 1/3 characters, which is 82 with one line end after 76.
    assert found["base64"] == 100 + 2 * len(CANARY) + 11 + 82 + 1


@for_each(
    "encode",
    [
        lambda text: json.dumps(text).encode(),
        lambda text: json.dumps(text, ensure_ascii=False).encode(),
        lambda text: json.dumps(json.dumps(text)).encode(),
        lambda text: urllib.parse.quote(text).encode(),
        lambda text: urllib.parse.quote_plus(text, safe='"').encode(),
        lambda text: re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(text)).encode(),
        lambda text: json.dumps(text).replace("/", "\\/").encode(),
        lambda text: urlsafe_b64encode(b"??>" + text.encode()),
        lambda text: b64encode(b"??>" + text.encode()),
    ],
)
def test_a_canary_that_must_be_escaped_is_found(
    encode: Callable[[str], bytes], tmp_path: Path
) -> None:
    """Quotes, slashes, per cent signs, letters beyond ASCII and beyond 16 bits."""
    (tmp_path / "file").write_bytes(b"before " + encode(HARD) + b" after")
    assert {hit.canary for hit in scan(tmp_path, [HARD])} == {HARD}


@for_each("packing", PACKINGS)
@for_each("way", ["plain", "base64-1", "json-mixed", "utf-16-le"])
def test_packed_data_is_found_at_any_offset(packing: str, way: str, tmp_path: Path) -> None:
    encoding, encode = ENCODINGS[way]
    packed = PACKINGS[packing](b"some text before\n" * 9 + encode(CANARY) + b"\nand after")
    (tmp_path / "file").write_bytes(NOISE + packed + NOISE)
    hits = [hit for hit in scan(tmp_path, CANARIES) if ">" in hit.encoding]
    assert hits == [Hit(tmp_path / "file", CANARY, f"{packing}>{encoding}", len(NOISE))]


def test_deflate_without_a_header_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(raw_deflate(b"x" * 50 + CANARY.encode()))
    assert scan(tmp_path, CANARIES) == [Hit(tmp_path / "file", CANARY, "deflate>plain", 0)]


@for_each("level", [0, 1, 9])
@for_each("bits", [9, 12, 15])
def test_zlib_data_of_every_header(level: int, bits: int, tmp_path: Path) -> None:
    """Small windows and all levels have other first bytes."""
    deflate = zlib.compressobj(level, wbits=bits)
    packed = deflate.compress(CANARY.encode() * 2) + deflate.flush()
    (tmp_path / "file").write_bytes(b"..." + packed)
    assert "zlib>plain" in {hit.encoding for hit in scan(tmp_path, CANARIES)}


def test_gzip_headers_may_hold_a_name_a_comment_and_more(tmp_path: Path) -> None:
    """All optional parts of RFC 1952, which put the data further back."""
    body = raw_deflate(CANARY.encode())
    optional = b"\x04\x00abcd" + b"name\0" + b"comment\0" + b"\x12\x34"
    head = b"\x1f\x8b\x08\x1e" + bytes(6)
    (tmp_path / "file").write_bytes(b"!" + head + optional + body + bytes(8))
    assert scan(tmp_path, CANARIES) == [Hit(tmp_path / "file", CANARY, "gzip>plain", 1)]


def test_packed_in_packed(tmp_path: Path) -> None:
    """Several layers of different algorithms; the place is that of the outermost."""
    packed = ZSTD.compress(b"a" + zlib.compress(b"b" + gzip.compress(CANARY.encode())))
    (tmp_path / "file").write_bytes(b"head" + packed)
    assert Hit(tmp_path / "file", CANARY, "zstd>zlib>gzip>plain", 4) in scan(tmp_path, CANARIES)


def test_packed_beyond_reach_is_not_called_clean(tmp_path: Path) -> None:
    packed = CANARY.encode()
    for _ in range(10):
        packed = gzip.compress(packed)
    (tmp_path / "file").write_bytes(packed)
    with pytest.raises(InputError):
        scan(tmp_path, CANARIES)


@for_each("packing", PACKINGS)
def test_damage_hides_nothing_before_it(packing: str, tmp_path: Path) -> None:
    """Cut off, or with a wrong checksum: what comes out before is searched."""
    text = CANARY.encode() + b"\n" + RANDOM.randbytes(150_000).hex().encode()
    whole = PACKINGS[packing](text)
    (tmp_path / "cut").write_bytes(whole[:-9])
    (tmp_path / "sum").write_bytes(whole[:-6] + bytes(6))
    (tmp_path / "end").write_bytes(gzip.compress(CANARY.encode())[:-8] + b"checksum")
    found = {hit.path.name for hit in scan(tmp_path, CANARIES) if ">plain" in hit.encoding}
    assert found == {"cut", "sum", "end"}


def test_a_page_of_a_write_ahead_log(tmp_path: Path) -> None:
    """Deleted rows stay in the WAL of SQLite."""
    database = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (text)")
    database.execute("INSERT INTO t VALUES (?)", (CANARY,))
    database.execute("DELETE FROM t")
    hits = scan(tmp_path, CANARIES)
    database.close()
    assert [(hit.path.name, hit.encoding) for hit in hits] == [("store.db-wal", "plain")]


def test_a_file_name(tmp_path: Path) -> None:
    top = tmp_path / CANARIES[0]
    (top / CANARIES[1]).mkdir(parents=True)
    (top / CANARIES[1] / f"x{CANARIES[2].encode().hex()}").write_text("")
    (top / CANARIES[3]).mkdir()
    hits = {(CANARIES.index(hit.canary), hit.encoding) for hit in scan(top, CANARIES)}
    assert hits == {(1, "name>plain"), (2, "name>hex"), (3, "name>plain")}


def test_all_canaries_of_all_paths(tmp_path: Path) -> None:
    """Several paths, each canary once for each file and encoding."""
    for name in "ab":
        (tmp_path / name).write_text("".join(CANARIES * 3))
    hits = scan([tmp_path / "b", str(tmp_path / "a")], CANARIES)
    assert [(hit.path.name, hit.canary) for hit in hits] == [
        (name, canary) for name in "ba" for canary in CANARIES
    ]


def test_canaries_that_begin_differently(tmp_path: Path) -> None:
    """Each is searched for alone then, also where one contains another."""
    wanted = ["first-canary", "second-canary", "second-canary-2", "Kanarienvögel"]
    (tmp_path / "file").write_bytes(b"second-canary-2" + b64encode("Kanarienvögel".encode()))
    assert {hit.canary for hit in scan(tmp_path, wanted)} == set(wanted[1:])


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A link to a file or directory is read; a loop of links ends."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_text(CANARY)
    (inside / "link").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    assert [hit.path for hit in scan(inside, CANARIES)] == [inside / "link" / "file"]


def test_sockets_and_pipes_are_no_data(tmp_path: Path) -> None:
    """They are not opened, which could wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert scan(tmp_path, CANARIES) == []


@for_each("what", ["nothing", "dangling", "device"])
def test_what_cannot_be_read_is_not_called_clean(what: str, tmp_path: Path) -> None:
    """A path that leads nowhere, a link that does, a device that never ends."""
    path = tmp_path / "path"
    if what == "dangling":
        path.symlink_to(tmp_path / "gone")
    elif what == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"\[E101\]$"):
        scan(path, CANARIES)


def test_a_fault_while_reading_is_not_called_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without permission, or on a broken disk."""
    (tmp_path / "file").write_text("x")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError):
        scan(tmp_path, CANARIES)


@for_each("wanted", [[], ["short"], [CANARY, ""]])
def test_canaries_that_cannot_be_found_are_refused(wanted: list[str], tmp_path: Path) -> None:
    with raises("E107", ConfigError):
        scan(tmp_path, wanted)


def test_zstd_data_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" + ZSTD.compress(b"clean"))
    assert scan(tmp_path, CANARIES) == []
    for name in ("compression", "backports"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.zstd", None)
    with raises("E201", ConfigError):
        scan(tmp_path, CANARIES)


def test_clean_data_gives_nothing(tmp_path: Path) -> None:
    """Canaries of another run, half ones, random bytes, and all of that packed."""
    others = canaries(40)
    text = " ".join([*others, *(canary[:-1] for canary in CANARIES), "canary", "\\u0063anary %63"])
    for name, data in {
        "text": text.encode(),
        "utf-16": text.encode("utf-16"),
        "base64": b64encode(text.encode()),
        "gzip": gzip.compress(text.encode()),
        "random": NOISE * 20,
        "magic": b"\x1f\x8b\x08x\x9c\x28\xb5\x2f\xfd" * 500,
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
    assert scan(tmp_path, CANARIES) == []
    assert {hit.canary for hit in scan(tmp_path, others)} == set(others)


@settings(suppress_health_check=[*HealthCheck])
@given(
    st.binary(max_size=40),
    st.sampled_from(sorted(ENCODINGS)),
    st.sampled_from([None, *PACKINGS]),
    st.integers(1, 50),
)
def test_windows_hide_nothing(
    tmp_path: Path, before: bytes, way: str, packing: str | None, window: int
) -> None:
    data = before + b" " + ENCODINGS[way][1](CANARY) + b" "
    if packing is not None:
        data = before + PACKINGS[packing](data * 2)
    (tmp_path / "file").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "_WINDOW", window)
        patch.setattr(_search, "_FLUSH", window)
        patch.setattr(_search, "_STEP", 3 * window)
        assert CANARY in {hit.canary for hit in scan(tmp_path / "file", CANARIES)}


@pytest.mark.long
def test_memory_is_constant(tmp_path: Path) -> None:
    """24 MiB that unpack to as much again cost a few windows."""
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as packed:
        for _ in range(24):
            packed.write(bytes(1 << 20))
        packed.write(CANARY.encode())
    (tmp_path / "bomb.zst").write_bytes(ZSTD.compress(bytes(24 << 20) + CANARY.encode()))
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(24 << 20)
        sparse.seek(0, os.SEEK_END)
        sparse.write(CANARY.encode())
    tracemalloc.start()
    try:
        hits = scan(tmp_path, CANARIES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {hit.encoding for hit in hits} == {"gzip>plain", "zstd>plain", "plain"}
    assert peak < 12 << 20
