"""A sidecar with four kinds of sinks at once: store, files, PostgreSQL and a bucket. Each server is
behind a proxy that can fail. Also reads what each place holds."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from pyarrow import parquet

from collector.server.control_client import Status, ask
from tests.support.database import query
from tests.support.postgres import PostgresServer
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy
from tests.support.s3 import Proxy, S3Server, s3_server
from tests.support.sidecar import Sidecar, started
from tests.support.tcp import tcp_server

SECRETS = {"LAKE_KEY": "key", "LAKE_SECRET": "secret"}
SINKS = ("store", "lines", "warehouse", "lake")
_CONFIG = "collector.yaml"


@dataclass
class Places:
    """A directory with the configuration, and the servers in it."""

    directory: Path
    postgres: PostgresServer
    s3: S3Server
    postgres_proxy: PostgresProxy
    s3_proxy: Proxy
    every: str = "1s"
    log: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def configure(self, **more: Any) -> None:
        """Write the configuration."""
        url = f"postgres://collector@127.0.0.1:{self.postgres_proxy.port}/telemetry"
        lake = {
            "type": "parquet",
            "url": "s3://lake/records",
            "endpoint": f"http://127.0.0.1:{self.s3_proxy.port}",
            "region": "us-east-1",
            "access_key": "env:LAKE_KEY",
            "secret_key": "env:LAKE_SECRET",
            "party": "first",
            "every": self.every,
        }
        sinks = {
            "lines": {"type": "ndjson", "path": "records.ndjson"},
            "warehouse": {"type": "postgres", "url": url, "party": "first"},
            "lake": lake,
        }
        settings = {"data": "data", "sinks": sinks} | more
        (self.directory / _CONFIG).write_text(json.dumps(settings))

    @contextmanager
    def serving(self) -> Iterator[Sidecar]:
        """Run a sidecar for a block, and keep its log."""
        environ = SECRETS | {"COLLECTOR__LOG__LEVEL": "debug"}
        with started(self.directory, "--config", _CONFIG, environ=environ) as sidecar:
            try:
                yield sidecar
            finally:
                self.log += sidecar.log

    def states(self) -> dict[str, dict[str, Any]]:
        """Return what the sidecar reports about its sinks."""
        answer = ask(self.data, Status())
        assert answer is not None
        found: dict[str, dict[str, Any]] = answer["sinks"]
        return found

    def addresses(self, place: str) -> Counter[str]:
        """Return how many events of each address a place holds; for the lake, in its files."""
        found = Counter[str]()
        for address, count in getattr(self, f"_of_{place}")():
            found[address] += count
        return found

    def _of_store(self) -> list[tuple[str, int]]:
        return query(self.data / "store.db", 'SELECT "client.address", count FROM conferencing')

    def _of_lines(self) -> Iterator[tuple[str, int]]:
        for path in self.directory.glob("records*.ndjson"):
            for line in path.read_bytes().splitlines():
                record = json.loads(line)
                yield record["client.address"], record.get("count", 1)

    def _of_warehouse(self) -> list[tuple[str, int]]:
        columns = 'host("client.address"), count'
        return [
            (address, number)
            for address, number in self.postgres.ask(
                f"SELECT {columns} FROM collector.conferencing"
            )
        ]

    def _of_lake(self) -> Iterator[tuple[str, int]]:
        for content in self.objects().values():
            table = parquet.read_table(BytesIO(content), columns=["client.address", "count"])
            for row in table.to_pylist():
                yield row["client.address"], row["count"]

    def objects(self) -> dict[str, bytes]:
        """Return the current objects of the bucket."""
        store = _bucket(self.s3.port)
        names = [str(each["path"]) for page in obstore.list(store, "records") for each in page]
        return {name: bytes(obstore.get(store, name).bytes()) for name in names}

    def said(self) -> bytes:
        """Return all that the sidecar has written: its files, its log and its spool."""
        files = [each for each in self.directory.rglob("*") if each.is_file()]
        return b"".join(each.read_bytes() for each in files) + "".join(self.log).encode()


def _bucket(port: int) -> S3Store:
    config: Any = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "endpoint": f"http://127.0.0.1:{port}",
    }
    options: Any = {"allow_http": True}
    return S3Store("lake", config=config, client_options=options)


@contextmanager
def places(directory: Path, *, every: str = "1s") -> Iterator[Places]:
    """Run the servers for a block. ``every`` is the interval at which records become an object."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer.made())
        weed = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collector-s3-")))
        s3 = stack.enter_context(s3_server(weed))
        obstore.put(_bucket(s3.port), "is-there", b"")
        before_postgres = stack.enter_context(postgres_proxy(postgres.directory))
        before_s3 = Proxy(s3.port)
        before_s3.port = stack.enter_context(tcp_server(before_s3.handle))
        directory.mkdir(exist_ok=True)
        made = Places(directory, postgres, s3, before_postgres, before_s3, every)
        made.configure()
        yield made
