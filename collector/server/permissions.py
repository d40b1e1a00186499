"""Take files of the sidecar from others who may read them, and count those that stay open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from collector.config import Config
from collector.file_modes import Tightened, tighten, tighten_directory
from collector.schema import Schema
from collector.server.worker_setup import pseudonyms

__all__ = ["tighten_all"]

_FILES = ("spool.db*", "store.db*", "ledger.key*", "collector.lock", "sinks/*/*")
_ANYONE = 0o007


def tighten_all(config: Config, schemas: Iterable[Schema]) -> Tightened:
    """Make the files of the data directory and of sinks their owner's alone, and the directory if
    nothing else is in it. From key files of the operator only other users are kept out: a group
    may be meant to read them."""
    data = config.data or Path()
    written = [path for sink in config.sinks.values() for path in sink.files().values()]
    ours = [path for pattern in _FILES for path in data.glob(pattern) if path.is_file()]
    ours += [*written, *(path for each in written for path in each.parent.glob(f"{each.name}.*"))]
    keys = [path.resolve() for path in _keys(config, schemas) if path.is_file()]
    return tighten(ours) + tighten(keys, _ANYONE) + tighten_directory(data, written)


def _keys(config: Config, schemas: Iterable[Schema]) -> Iterator[Path]:
    if config.tls.key is not None:
        yield config.tls.key
    for field in pseudonyms(schemas):
        scheme, _, place = field.key.partition(":")
        if scheme == "file":
            yield Path(place)
