"""Random schemas, configurations and histories, honest and dishonest: no claim holds where a file
has what it denies.

``COLLECTOR_PIPELINES`` is how many are tried (`make nightly` tries 1,000).
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.claims.document import SERVING_CHECKS, load_claims
from collector.claims.findings import Verdict, verdict
from collector.claims.verification import check
from collector.config import load
from collector.contracts import Batch, Form, Request
from collector.documents import Document, read
from collector.errors import CollectorError, ConfigFaults, SchemaError
from collector.filter import Filter
from collector.keyring import Keyring
from collector.ledger import Note
from collector.pipeline import Pipeline
from collector.routing import flows, reaching
from collector.schema import Schema, load_schema, resources
from collector.schema.load import parse_source
from collector.schema.names.scope import POSITIVE
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.sink import Opening, open_sink
from collector.spool import Spool, note
from collector.testing import canaries, scan
from tests.names.corpora import corpus
from tests.retention.test_earlier import note_configuration
from tests.strategies import lines
from tests.strategies.documents import documents
from tests.support.database import query
from tests.support.make_batches import plant_aside

_TRIED = int(os.environ.get("COLLECTOR_PIPELINES", "8"))
_CLAIMS = {name: load_claims()[name] for name in ("needed-only", "no-content")}
_MINUTE = "2026-11-26T10:20:00Z"
_SECONDS = 60.0
_LINES = ("here.ndjson", "there.ndjson", "data/lines.ndjson")
_STORES = (None, "stores/other.db")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of pseudonyms, which generated schemas name."""
    for name in ("DAILY", "HOURLY"):
        monkeypatch.setenv(f"{name}_KEY_OF_TESTS", secrets.token_hex(32))


# -- what is drawn --------------------------------------------------------------------------------


def _changed(seed: int) -> Any:
    """A shipped document with other names, paths and kinds."""
    random = Random(seed)
    return _first_that_loads(_mutated(random) for _ in count())


_PATTERNS = ("[a-z]{2}", "SM-[A-Z]{1,2}[0-9]", "[0-9a-f]{8}", "[0-9]{1,4}", "(he|be)llo", "v[0-9]")


def _mutated(random: Random) -> dict[str, Any]:
    name = random.choice(resources.names())
    document: dict[str, Any] = copy.deepcopy(read(resources.shipped() / f"{name}.yaml", "it").value)
    document.pop("tests", None)
    document.pop("max_bits", None)
    names = corpus(random.choice(("telling", "innocent")))
    fields = document["fields"]
    for _ in range(random.randint(1, 3)):
        name = random.choice(list(fields))
        field = fields[name]
        match random.randrange(4):
            case 0:
                for option in ("catalogue", "values", "aliases", "max_length", "parts", "maximum"):
                    field.pop(option, None)
                field.pop("source", None)
                fields[name] = {**field, "kind": "token", "pattern": random.choice(_PATTERNS)}
            case 1:
                fields[random.choice(names).name.lower()] = fields.pop(name)
            case 2:
                field["from"] = [each.name for each in random.sample(names, random.randint(1, 3))]
            case _:
                fields[f"{name}.p{random.randint(1, 4)}"] = {**field, "reason": "One more of it"}
    return document


def _longer(seed: int) -> Any:
    """A shipped document with a field more, which no sentence may describe."""
    random = Random(seed)
    return _first_that_loads(_with_more(random) for _ in count())


def _with_more(random: Random) -> dict[str, Any]:
    document = read(resources.shipped() / f"{random.choice(resources.names())}.yaml", "it").value
    document = {key: value for key, value in document.items() if key not in ("max_bits", "tests")}
    like = random.choice(list(document["fields"].values()))
    rest = {key: like[key] for key in ("category", "purposes", "retention", "reason")}
    name, kind = random.choice(_MORE)
    return {**document, "fields": {**document["fields"], name: {**kind, **rest}}}


_MORE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("device.brand", {"kind": "token", "pattern": "[wt]h[a-e][tn]|v[0-9]"}),
    ("hw.model", {"kind": "token", "pattern": "[a-z]{3}[0-9]{0,2}"}),
    ("asthma.severity", {"kind": "enum", "values": ["low", "high"]}),
    ("device.sensors", {"kind": "integer", "minimum": 0, "maximum": 9, "step": 1}),
    ("screen.hdr", {"kind": "boolean"}),
    ("host.uptime", {"kind": "number", "minimum": 0, "maximum": 1000, "step": 0.5}),
    ("os.type", {"kind": "enum", "values": ["linux", "beos"]}),
)


def _first_that_loads(drawn: Iterator[dict[str, Any]]) -> Any:
    for document in islice(drawn, _MOST_TRIES):
        schema, _ = parse_source(Document("drawn", value=document))
        if schema is not None:
            return document
    return "conferencing"


_MOST_TRIES = 40


def _shipped() -> st.SearchStrategy[Any]:
    return st.sampled_from(resources.names())


def _documents() -> st.SearchStrategy[Any]:
    """Shipped schemas by name, and documents that load."""
    seeds = st.integers(0, 1 << 30)
    return st.one_of(_shipped(), documents(), seeds.map(_changed), seeds.map(_longer))


@st.composite
def _sinks(draw: st.DrawFn) -> dict[str, Any]:
    """A store or none, and files of records."""
    store = draw(st.sampled_from([*_STORES, False]))
    lines = draw(st.lists(st.sampled_from(_LINES), unique=True, max_size=2))
    found: dict[str, Any] = {"store": {"path": store} if store else store is None}
    for number, path in enumerate(lines):
        found["ndjson" if not number else "lake"] = {"type": "ndjson", "path": path}
    return found if any(found.values()) else {"store": True}


# -- a history ------------------------------------------------------------------------------------


@dataclass
class History:
    """A data directory and what has come into it. ``configured`` are the files of configurations,
    the newest last."""

    folder: Path
    random: Random
    canaries: tuple[str, ...] = field(default_factory=lambda: canaries(2))
    configured: list[Path] = field(default_factory=list)
    schemas: list[Schema] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def configure(self, document: Any, sinks: dict[str, Any], data: Path | None = None) -> bool:
        """Write a configuration; return whether it can run."""
        number, schema = len(self.configured), document
        if not isinstance(document, str):
            schema = self.folder / f"schema-{number}.yaml"
            schema.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
        placed = {
            name: {**sink, "path": str(self.folder / sink["path"])}
            if isinstance(sink, dict) and sink.get("path")
            else sink
            for name, sink in sinks.items()
        }
        file = self.folder / f"collector-{number}.json"
        told = {"data": str(data or self.data), "schema": str(schema), "sinks": placed}
        file.write_bytes(orjson.dumps(told))
        try:
            loaded = load_schema(str(schema))
            flows(load(file), loaded)
        except (SchemaError, ConfigFaults):
            return False
        self.configured.append(file)
        self.schemas.append(loaded)
        return True

    def run(self, bodies: list[Request], *, is_noted: bool = True, delivers: bool = True) -> None:
        """Let a pipeline of the newest configuration take requests."""
        config, schema = load(self.configured[-1]), self.schemas[-1]
        data = config.data or self.data
        data.mkdir(mode=0o700, exist_ok=True)
        on = config.sinks.on()
        with Spool(data / "spool.db", sinks=[*on]) as spool, ExitStack() as stack:
            sinks = {}
            for name, sink in on.items() if delivers else ():
                sinks[name] = open_sink(sink, Opening(name, (schema,), data))
                stack.callback(sinks[name].close)
            fields_for = reaching([flows(config, schema)])
            chosen = Filter(schema, keys=Keyring())
            pipeline = Pipeline(chosen, spool, sinks, fields_for)
            pipeline.start()
            for body in bodies:
                with suppress(CollectorError):
                    pipeline.accept_now(body)
            pipeline.close(_SECONDS)
        if is_noted:
            note_configuration(data, self.configured[-1])
            facts = {"schema": schema.id, "change": "first"}
            note(data, Note.of("schema", document=schema.document, **facts))

    def bodies(self, drawn: bytes) -> list[Request]:
        """Return requests of lines, of events with content, and of records that try to have it."""
        schema, (canary, *_) = self.schemas[-1], self.canaries
        content = dict.fromkeys((*schema.content_names, "unlisted", "chatText"), canary)
        told = [{**each.event, **content} for each in schema.tests if isinstance(each.event, dict)]
        said = [
            {"schema": schema.id, name: value, "unlisted": canary}
            for name in schema.fields
            for value in (canary, "hello", "they")
        ]
        texts: tuple[tuple[Form, bytes], ...] = (
            ("ndjson", drawn),
            ("ndjson", _lines(told)),
            ("records", _lines(said)),
        )
        return [Request(form, text) for form, text in texts if text]

    def verdicts(self) -> dict[str, Verdict]:
        """Return those of the two claims; none holds where there is an error instead."""
        try:
            outcome = {
                **check(load(self.configured[-1]), canaries(2), scan, meetings=5),
                **dict.fromkeys(SERVING_CHECKS, ()),
            }
        except CollectorError:  # the ledger cannot be written, say
            return dict.fromkeys(_CLAIMS, "unproven")
        said = repr(outcome)
        assert not any(canary in said for canary in self.canaries)
        return {name: verdict(claim, outcome) for name, claim in _CLAIMS.items()}

    # what is there, read by other means than the product's

    def files(self) -> list[Path]:
        """All files that are not of the configuration."""
        own = ("collector-", "schema-")
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in found if not path.name.startswith(own)]

    def holds_canary(self) -> bool:
        """Whether any of these files has one."""
        return bool(scan(self.files(), self.canaries))

    def stored(self) -> Iterator[tuple[str, str, Any]]:
        """Yield all names with values, of columns, but those of Collector's own tables, and of
        members; with the name of the schema before them."""
        for path in self.files():
            if path.read_bytes()[:6] == b"SQLite":
                if not path.name.startswith("spool"):
                    yield from _columns(path)
            elif path.suffix != ".state" and ".ndjson" in path.name:
                for text in path.read_text("utf-8", "replace").splitlines():
                    with suppress(ValueError):
                        members = json.loads(text, object_pairs_hook=list)
                        schema = str(dict(members).get("schema")).partition("/")[0]
                        for name, value in members:
                            if name not in ("schema", "received", "count"):
                                yield schema, name, value

    def denied(self) -> set[str]:
        """Return the claims that are not true of what is there."""
        found = {*_CLAIMS} if self.holds_canary() else set[str]()
        kinds: dict[tuple[str, str], set[str]] = {}
        for schema in self.schemas:
            for name, each in schema.fields.items():
                kinds.setdefault((schema.name, name), set()).add(each.kind)
        for schema_name, name, _ in self.stored():
            listed = POSITIVE.get(name)
            kind = kinds.get((schema_name, name), {"token"})
            if listed is None or not kind <= listed.kinds:
                found |= {*_CLAIMS}
        return found


def _lines(values: list[Any]) -> bytes:
    """The values as records are written."""
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def _columns(path: Path) -> Iterator[tuple[str, str, Any]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table.startswith("_"):
                continue
            rows = db.execute(f'SELECT * FROM "{table}"')
            names = [each[0] for each in rows.description]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    if value is not None and name not in ("received", "count"):
                        yield table, name, value


# -- dishonest acts: each writes a canary, or a field that no sentence speaks of ------------------


def _databases(of: History) -> list[Path]:
    return [path for path in of.files() if path.suffix == ".db"]


def _edit(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db, db:
        for text, values in statements:
            db.execute(text, values)


def _any_text(of: History) -> None:
    """A canary in any column of any table that takes a text or bytes, Collector's own too."""
    for path in of.random.sample(found := _databases(of), min(1, len(found))):
        with closing(sqlite3.connect(path)) as db:
            tables = [
                row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            places = [
                (table, row[1], row[2])
                for table in tables
                for row in db.execute(f'PRAGMA table_info("{table}")')
                if row[2] in ("TEXT", "BLOB")
            ]
        table, column, kind = of.random.choice(places)
        value: Any = of.canaries[0] if kind == "TEXT" else of.canaries[0].encode()
        chosen = f'SELECT rowid FROM "{table}" ORDER BY random() LIMIT 1'
        _edit(path, (f'UPDATE "{table}" SET "{column}" = ? WHERE rowid IN ({chosen})', (value,)))
        _edit(path, (f'UPDATE "{table}" SET "{column}" = ?', (value,)))


def _tables(path: Path) -> list[str]:
    found = query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return [name for (name,) in found if not name.startswith(("_", "sqlite_"))]


def _column(of: History) -> None:
    for path in _databases(of):
        table = of.random.choice(_tables(path))
        name = of.random.choice(("chat", "device.sensors", "device.class"))
        _edit(
            path,
            (f'ALTER TABLE "{table}" ADD COLUMN "{name}" TEXT', ()),
            (f'UPDATE "{table}" SET "{name}" = ?', (of.canaries[0],)),
        )


def _table(of: History) -> None:
    for path in _databases(of):
        kind = of.random.choice(("TABLE", "VIEW"))
        said = f"SELECT '{of.canaries[0]}' AS text"
        _edit(path, (f"CREATE {kind} {of.random.choice(('chat', '_chat'))} AS {said}", ()))


def _line(of: History) -> None:
    schema, said = of.random.choice(of.schemas), of.canaries[0]
    name = of.random.choice([*schema.fields])
    text = of.random.choice(
        (
            f'{{"schema":"{schema.id}","{name}":"{said}","received":"{_MINUTE}"}}',
            f'{{"schema":"{schema.id}","{name}":"{said}","{name}":null,"received":"{_MINUTE}"}}',
            f'{{"schema":"{schema.id}","{said}":1,"received":"{_MINUTE}"}}',
            f'{{"schema":"{schema.id}","{name}":1,"received":"{said}"}}',
            f'{{"schema":"{said}","{name}":1,"received":"{_MINUTE}"}}',
            f'{{"schema":"{schema.id}","device.sensors":3,"received":"{_MINUTE}"}}',
            said,
        )
    )
    for path in [of.folder / each for each in _LINES if (of.folder / each).exists()]:
        end = of.random.choice(("", "", ".1", ".7", ".new"))
        with path.with_name(path.name + end).open("a") as file:
            file.write(f"{text}\n")


def _file(of: History) -> None:
    name = of.random.choice(
        ("chat.txt", "store.txt", "sinks/chat/records", ".hidden", "0/spool.db")
    )
    path = of.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(of.canaries[0])


def _aside(of: History) -> None:
    schema, said = of.schemas[-1], of.canaries[0]
    payload = _lines([{"schema": schema.id, next(iter(schema.fields)): said}])
    whole = Batch(bytes(16), _MINUTE, layout=schema.layout, payload=b"")
    changes: list[dict[str, Any]] = [
        {"payload": payload},
        {"received": said},
        {"layout": replace(schema.layout, schema=said)},
        {"layout": replace(schema.layout, digest=said)},
        {"layout": replace(schema.layout, table=said)},
        {"layout": replace(schema.layout, columns=((said, "TEXT"),))},
        {"id": said.encode()},
        {"granted": (said,)},
    ]
    plant_aside(of.data / "spool.db", "store", replace(whole, **of.random.choice(changes)))


def _elsewhere(of: History) -> None:
    """Another program of ours, with another data directory, wrote to a file that is named today."""
    for path in [of.folder / each for each in _LINES if (of.folder / each).exists()]:
        schema = load_schema("web")
        line = _lines([{"schema": schema.id, "http.route": of.canaries[0]}])
        with suppress(CollectorError), NdjsonFile(path) as file:
            file.deliver(
                Batch(secrets.token_bytes(16), _MINUTE, layout=schema.layout, payload=line)
            )


ACTS: tuple[Callable[[History], None], ...] = (
    *(_any_text, _any_text, _any_text, _column, _table, _line, _line, _file, _aside, _elsewhere),
)


# -- the law --------------------------------------------------------------------------------------


@pytest.mark.nightly
@settings(
    max_examples=_TRIED,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes a second
    suppress_health_check=[*HealthCheck],
    deadline=None,
)
@given(data=st.data())
def test_no_claim_holds_that_a_file_denies(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        history = History(Path(name), Random(data.draw(st.integers(0, 1 << 30), "seed")))
        for _ in range(data.draw(st.sampled_from([1, 1, 2]), "configurations")):
            sinks = data.draw(_sinks(), "sinks")
            if not history.configure(data.draw(_documents(), "schema"), sinks):
                history.configure("conferencing", sinks)
            drawn = data.draw(lines(history.schemas[-1]), "lines")
            history.run(
                history.bodies(drawn), delivers=data.draw(st.sampled_from([True] * 3 + [False]))
            )
        acts = data.draw(st.lists(st.sampled_from(ACTS), max_size=2), "acts")
        for act in acts:
            act(history)
        denied = history.denied()
        verdicts = history.verdicts()
        assert [each for each in denied if verdicts[each] == "holds"] == []
