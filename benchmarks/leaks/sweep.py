"""Attacks on a whole Collector, by the million: over every way in, and looked for in every place.

All listed values of clean events come out of small pools. So the outcome is known: a value in the
spool, the store or a file that is in none of the pools is a leak, however it is encoded. Besides,
every byte that was written or said is searched for the stems of the payloads.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import BenchmarkError, say
from benchmarks.leaks.attacks import CELLS, Attack, Cell, attack
from benchmarks.leaks.events import CANONICAL, SHAPES, Shape, write
from benchmarks.leaks.payloads import STEMS
from benchmarks.leaks.sidecar import Sidecar, rows, running
from benchmarks.leaks.wire import export
from collector import Collector, load_schema
from collector.testing import scan

_CHUNK = 100
"""Attacks of one request."""
_ROUND = 20_000
"""Attacks after which the spool is looked at."""
_HELD = 1_000
"""Attacks of a round that stay in the spool until they are looked at."""
_AT_ONCE = 2
_RESERVED = frozenset(["schema", "count", "received"])
_JSON, _NDJSON, _PROTOBUF = "application/json", "application/x-ndjson", "application/x-protobuf"


class Sweep:
    """What a sweep found: attacks by way in, records that were looked at by place, and leaks."""

    def __init__(self) -> None:
        self.attacks, self.records, self.leaks = Counter[str](), Counter[str](), Counter[str]()

    def add(self, other: Sweep) -> None:
        """Add what another found."""
        self.attacks.update(other.attacks)
        self.records.update(other.records)
        self.leaks.update(other.leaks)


def sweep(number: int, seed: int) -> Sweep:
    """Send that many attacks, to a sidecar for each shipped schema that a shape has, and to an SDK
    that keeps records itself."""
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
            total.add(each)
    return total


def attack_sidecar(
    folder: Path,
    schema: str,
    number: int,
    *,
    rng: random.Random,
    found: Sweep,
    command: Sequence[str] | None = None,
) -> None:
    """Send attacks of a schema's shapes to a sidecar in a folder, and look for them there."""
    name = load_schema(schema).name
    cells = [cell for cell in CELLS if SHAPES[cell.shape].schema == name]
    with (
        running(folder, schema, command) as sidecar,
        _own(schema, folder / "sdk-store", "sqlite", "own.db") as store,
        _own(schema, folder / "sdk-file", "ndjson", "own.ndjson") as file,
        Collector(schema, f"http://127.0.0.1:{sidecar.ports['http']}") as remote,
    ):
        telemetry = (remote, store, file)
        sent = 0

        def send(goal: int) -> None:
            nonlocal sent
            while sent < goal:
                few = min(_CHUNK, goal - sent)
                sent += _send(sidecar, telemetry, cells, few, rng=rng, found=found)

        while sent < number:
            goal = min(number, sent + _ROUND)
            with sidecar.held():
                send(min(goal, sent + _HELD))
                _flush(remote)
                for payload in sidecar.waiting():
                    _judge("spool", map(json.loads, payload.splitlines()), found)
                _search(sorted(sidecar.spool.parent.glob("spool*")), found)
            send(goal)
            say(f"leaks: {sent:,} of {number:,} attacks on {name}")
        _flush(remote)
        sidecar.delivered()
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
    """An SDK that keeps its records in a folder."""
    folder.mkdir()
    with Collector(schema, f"{scheme}:///{folder / name}") as telemetry:
        yield telemetry


def _flush(telemetry: Collector) -> None:
    if not telemetry.flush(120):
        raise BenchmarkError("the SDK does not deliver")


def _send(
    sidecar: Sidecar,
    telemetry: Sequence[Collector],
    cells: Sequence[Cell],
    number: int,
    *,
    rng: random.Random,
    found: Sweep,
) -> int:
    """Send attacks of one shape over one way; returns how many."""
    shape = SHAPES[rng.choice(cells).shape]
    own = [cell for cell in cells if cell.shape == shape.name]
    made = [attack(cell, rng) for cell in rng.choices(own, k=number)]
    way = rng.choice(
        [name for name, (otlp, _) in WAYS.items() if otlp == (shape.signal is not None)]
    )
    found.attacks[way] += number
    if (send := WAYS[way][1]) is None:
        _emit(shape, rng.choice(telemetry), made)
    else:
        send(sidecar, shape, made)
    return number


def _emit(shape: Shape, telemetry: Collector, attacks: Iterable[Attack]) -> None:
    for each in attacks:
        groups = [each.bodies] if shape.several else [[body] for body in each.bodies]
        for text, group in zip(each.texts, groups, strict=True):
            document = shape.wrap(group)
            telemetry.emit(document if isinstance(document, dict) else text)


def _as_json(sidecar: Sidecar, _shape: Shape, attacks: Sequence[Attack]) -> None:
    """A list of documents; and one by itself, whose sender stands in for what it lacks."""
    texts = [text for each in attacks for text in each.texts]
    for body in (f"[{','.join(texts)}]", texts[0]):
        sidecar.post("/v1/events", _JSON, body.encode())


def _as_lines(sidecar: Sidecar, _shape: Shape, attacks: Sequence[Attack]) -> None:
    text = "\n".join(text for each in attacks for text in each.texts)
    sidecar.post("/v1/events", _NDJSON, text.encode())


def _document(shape: Shape, attacks: Sequence[Attack]) -> Any:
    return shape.wrap([body for each in attacks for body in each.bodies])


def _as_otlp_json(sidecar: Sidecar, shape: Shape, attacks: Sequence[Attack]) -> None:
    sidecar.post(f"/v1/{shape.signal}", _JSON, write(_document(shape, attacks)).encode())


def _as_protobuf(sidecar: Sidecar, shape: Shape, attacks: Sequence[Attack]) -> None:
    sidecar.post(f"/v1/{shape.signal}", _PROTOBUF, export(_document(shape, attacks)))


def _over_grpc(sidecar: Sidecar, shape: Shape, attacks: Sequence[Attack]) -> None:
    sidecar.call(str(shape.signal), export(_document(shape, attacks)))


_Send = Callable[[Sidecar, Shape, Sequence[Attack]], None]
WAYS: dict[str, tuple[bool, _Send | None]] = {
    "JSON": (False, _as_json),
    "NDJSON": (False, _as_lines),
    "SDK mappings": (False, None),
    "OTLP, JSON": (True, _as_otlp_json),
    "OTLP, protobuf": (True, _as_protobuf),
    "OTLP, gRPC": (True, _over_grpc),
}
"""The ways in: whether it is for a signal of OTLP, and the function that sends to a sidecar."""


def _stored(file: Path, table: str) -> Iterator[dict[str, Any]]:
    """Yield each different row of a table, with the names of its columns."""
    quoted = f'"{table}"'
    names = [row[1] for row in rows(file, f"PRAGMA table_info({quoted})")]
    for row in rows(file, f"SELECT * FROM {quoted}"):
        yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _judge(place: str, records: Iterable[dict[str, Any]], found: Sweep) -> None:
    """Count the values that are none of clean events."""
    seen: Counter[tuple[str, Any]] = Counter()
    number = 0
    for record in records:
        number += 1
        seen.update(record.items())
    found.records[place] += number
    for (name, value), times in seen.items():
        if name not in _RESERVED and value not in CANONICAL.get(name, ()):
            found.leaks[f"{place}: {name}"] += times


def _search(paths: Sequence[Path], found: Sweep) -> None:
    """Count the files in which stems are found in any byte."""
    for hit in scan(paths, STEMS):
        found.leaks[f"{hit.path.name}, {hit.encoding}"] += 1
