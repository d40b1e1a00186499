"""The memory that endless answers take: each comes from a server of the test's, to a process of its
own, of which the most that it ever had is looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

from tests.programs import script
from tests.s3 import Proxy
from tests.sinks.postgres_proxy import postgres_proxy
from tests.tcp import tcp_server

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell"),
]

_BOMB_BYTES = 512 << 20
_MOST_MB = 384
"""A machine that is busy lets more arrive between two looks; all of it would be 512 MB and more."""
_SECONDS = 240
_DATABASE = """
import sys
from pathlib import Path
from collector.errors import Unreachable
from collector.sinks.postgres.server import Server
settings = {"host": "127.0.0.1", "port": int(sys.argv[1]), "dbname": "a", "user": "b"}
server = Server(settings, lambda _: None)
for _ in range(3):
    try:
        server.run(lambda _: None)
    except Unreachable:
        print("refused")
"""
_BUCKET = """
import sys
from pathlib import Path
from collector.errors import Unreachable
from collector.sinks.parquet.object_store import BucketObjects
secrets = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
endpoint = {"endpoint": f"http://127.0.0.1:{sys.argv[1]}"}
file = Path(sys.argv[2])
file.write_bytes(b"x")
bucket = BucketObjects("s3://lake/a", secrets | endpoint, file)
for ask in (
    lambda: bucket.create("key", file),
    lambda: bucket.open("key"),
    lambda: bucket.read("key"),
    lambda: bucket.remove("key"),
    lambda: list(bucket.all_keys()),
):
    try:
        ask()
    except Unreachable:
        print("refused")
"""
_PEAK = """
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def _peak(code: str, *arguments: object) -> tuple[int, int]:
    """Return how often a server was given up, and the most memory, in MB."""
    *refused, peak = script(code + _PEAK, *arguments, timeout=_SECONDS).stdout.split()
    return len(refused), int(peak) >> 10


def test_a_notice_of_a_database_without_an_end(tmp_path: Path) -> None:
    """While the connection is made: psycopg does not show it by then."""
    with postgres_proxy(tmp_path) as proxy:
        proxy.mode = "bomb"
        refused, peak = _peak(_DATABASE, proxy.port)
    assert refused == 3
    assert peak < _MOST_MB


def test_refusals_of_a_bucket_without_an_end(tmp_path: Path) -> None:
    """Of whatever it is asked."""
    proxy = Proxy(0)
    proxy.mode = "bomb"
    with mock.patch("tests.s3._BOMB", _BOMB_BYTES), tcp_server(proxy.handle) as port:
        refused, peak = _peak(_BUCKET, port, tmp_path / "file")
    assert refused == 5
    assert peak < _MOST_MB
