"""A million attacks on a whole Collector, over every way in, with a search in every place.

All listed values of clean events come from small pools, so the outcome is known: a value in the
spool, the store or a file that is in none of the pools is a leak, however it is encoded. In
addition, every byte that was written or answered is searched for the stems of the payloads.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import BenchmarkError, say
from benchmarks.leaks.attacks import CELLS, STEMS, Attack, attack
from benchmarks.leaks.events import CANONICAL, SHAPES, Shape, export, write
from benchmarks.leaks.sidecar import Sidecar, rows, running
from collector import Collector, load_schema
from collector.testing import scan

_CHUNK = 100
"""The number of attacks in one request."""
_ROUND = 20_000
"""The number of attacks between two looks at the spool."""
_HELD = 1_000
"""The attacks of a round that are held in the spool until the look."""
_AT_ONCE = 2
_RESERVED = frozenset(["schema", "count", "received"])

_Send = Callable[[Sidecar, Shape, Sequence[Attack]], object]


def _document(shape: Shape, attacks: Sequence[Attack]) -> Any:
    return shape.wrap([body for each in attacks for body in each.bodies])


def _texts(attacks: Sequence[Attack]) -> list[str]:
    return [text for each in attacks for text in each.texts]


def _as_json(sidecar: Sidecar, _shape: Shape, attacks: Sequence[Attack]) -> None:
    """Send a list of documents, and then one document alone, for which the sender's address may be
    used."""
    texts = _texts(attacks)
    for body in (f"[{','.join(texts)}]", texts[0]):
        sidecar.post("/v1/events", "application/json", body.encode())


WAYS: dict[str, tuple[bool, _Send | None]] = {
    "JSON": (False, _as_json),
    "NDJSON": (
        False,
        lambda sidecar, _, attacks: sidecar.post(
            "/v1/events", "application/x-ndjson", "\n".join(_texts(attacks)).encode()
        ),
    ),
    "SDK mappings": (False, None),
    "OTLP, JSON": (
        True,
        lambda sidecar, shape, attacks: sidecar.post(
            f"/v1/{shape.signal}", "application/json", write(_document(shape, attacks)).encode()
        ),
    ),
    "OTLP, protobuf": (
        True,
        lambda sidecar, shape, attacks: sidecar.post(
            f"/v1/{shape.signal}", "application/x-protobuf", export(_document(shape, attacks))
        ),
    ),
    "OTLP, gRPC": (
        True,
        lambda sidecar, shape, attacks: sidecar.call(
            str(shape.signal), export(_document(shape, attacks))
        ),
    ),
}
"""The ways in: whether the way is an OTLP signal, and the function that sends to a sidecar;
``None`` is an SDK's ``emit``."""


@dataclass
class Sweep:
    """The result of a sweep: attacks by way in, searched records by place, and leaks."""

    attacks: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)


def sweep(number: int, seed: int) -> Sweep:
    """Send this many attacks to a sidecar for each shipped schema that a shape has, and to an SDK
    that stores records itself."""
    by_schema = Counter(shape.schema for shape in SHAPES.values())

    def swept(schema: str) -> Sweep:
        found, rng = Sweep(), random.Random(f"{seed} {schema}")
        share = -(-number * by_schema[schema] // len(SHAPES))
        with TemporaryDirectory() as folder:
            attack_sidecar(Path(folder), schema, share, rng=rng, found=found)
        return found

    total = Sweep()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for each in pool.map(swept, by_schema):
            for name, counts in vars(each).items():
                getattr(total, name).update(counts)
    return total


def attack_sidecar(
    folder: Path,
    schema: str,
    number: int,
    *,
    rng: random.Random,
    found: Sweep,
    command: Sequence[str] = (),
) -> None:
    """Send attacks of a schema's shapes to a sidecar in a folder, and search for them there."""
    name = load_schema(schema).name
    cells = [cell for cell in CELLS if SHAPES[cell.shape].schema == name]
    with (
        running(folder, schema, command) as sidecar,
        _own(schema, folder / "sdk-store", "sqlite", "own.db") as store,
        _own(schema, folder / "sdk-file", "ndjson", "own.ndjson") as file,
        Collector(schema, f"http://127.0.0.1:{sidecar.server.ports['http']}") as remote,
    ):

        def send(few: int) -> None:
            """Send attacks of one shape over one way, repeatedly."""
            for left in range(few, 0, -_CHUNK):
                shape = SHAPES[rng.choice(cells).shape]
                own = [cell for cell in cells if cell.shape == shape.name]
                made = [attack(cell, rng) for cell in rng.choices(own, k=min(_CHUNK, left))]
                is_otlp = shape.signal is not None
                way = rng.choice([each for each, (otlp, _) in WAYS.items() if otlp == is_otlp])
                found.attacks[way] += len(made)
                if (post := WAYS[way][1]) is None:
                    _emit(rng.choice((remote, store, file)), made)
                else:
                    post(sidecar, shape, made)

        for sent in range(0, number, _ROUND):
            few = min(_ROUND, number - sent)
            held = min(_HELD, few)
            with sidecar.held():
                send(held)
                _flush(remote)
                for payload in sidecar.waiting():
                    _judge("spool", map(json.loads, payload.splitlines()), found)
                _search(sorted(sidecar.spool.parent.glob("spool*")), found)
            send(few - held)
            say(f"leaks: {sent + few:,} of {number:,} attacks on {name}")
        _flush(remote)
        sidecar.server.drained()
        for each in (store, file):
            _flush(each)
        sidecar.write_down()
        _judge("store", _stored(sidecar.store, name), found)
        _judge("ndjson", map(json.loads, sidecar.lines()), found)
    _judge("SDK, store", _stored(folder / "sdk-store" / "own.db", name), found)
    lines = (folder / "sdk-file" / "own.ndjson").read_bytes().splitlines()
    _judge("SDK, file", map(json.loads, lines), found)
    (folder / "log").write_text("\n".join(sidecar.log))
    _search([folder], found)


@contextmanager
def _own(schema: str, folder: Path, scheme: str, name: str) -> Iterator[Collector]:
    """An SDK that stores its records in a folder."""
    folder.mkdir()
    with Collector(schema, f"{scheme}:///{folder / name}") as telemetry:
        yield telemetry


def _flush(telemetry: Collector) -> None:
    if not telemetry.flush(120):
        raise BenchmarkError("the SDK does not deliver")


def _emit(telemetry: Collector, attacks: Iterable[Attack]) -> None:
    for each in attacks:
        for text, document in zip(each.texts, each.documents(), strict=True):
            telemetry.emit(document if isinstance(document, dict) else text)


def _stored(file: Path, table: str) -> Iterator[dict[str, Any]]:
    """Yield each distinct row of a table, with the names of its columns."""
    quoted = f'"{table}"'
    names = [row[1] for row in rows(file, f"PRAGMA table_info({quoted})")]
    for row in rows(file, f"SELECT * FROM {quoted}"):
        yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _judge(place: str, records: Iterable[dict[str, Any]], found: Sweep) -> None:
    """Count the values that clean events cannot have."""
    seen = Counter[tuple[str, Any]]()
    found.records[place] += 0
    for record in records:
        found.records[place] += 1
        seen.update(record.items())
    for (name, value), times in seen.items():
        if name not in _RESERVED and value not in CANONICAL.get(name, ()):
            found.leaks[f"{place}: {name}"] += times


def _search(paths: Sequence[Path], found: Sweep) -> None:
    """Count the files that contain a stem."""
    for hit in scan(paths, STEMS):
        found.leaks[f"{hit.path.name}, {hit.encoding}"] += 1
