"""Verification: the checks that the claims name, run against a configuration and what it has
written. A check finds faults, and one that finds none holds.

No fault names a value: it says which rule, which field, which sink, and how many.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from collector.config import Config
from collector.errors import CODES, ConfigFaults, DeliveryError, Fault, SchemaError
from collector.ledger import Note, opened
from collector.proof import rerouting
from collector.proof.claims import CHECKS, Check, Claim
from collector.proof.flows import LEGAL, Flows, entitled, flows
from collector.proof.overdue import overdue
from collector.proof.passage import Passage, pass_refused, pass_through
from collector.proof.rights import Holdings
from collector.schema.load import parse
from collector.schema.model import Schema
from collector.schema.policy import use_is_allowed
from collector.sinks.reading import looked, reading
from collector.sinks.retention import tables
from collector.sinks.table import quoted
from collector.spool import note

__all__ = ["Against", "Found", "Search", "Verdict", "check", "verdict"]

Search = Callable[[Iterable[Path], Sequence[str]], Collection[object]]
"""Finds texts in files and directories, however they are packed: ``collector.testing.scan``."""

Verdict = Literal["holds", "broken", "unproven", "missing"]


class Against(NamedTuple):
    """What speaks against a claim; ``rule`` is the code of the one that is broken, if it is one.
    ``is_open`` says that it shows nothing either way: there was nothing to look at, say."""

    message: str
    rule: str | None = None
    is_open: bool = False


Found = Mapping[Check, tuple[Against, ...] | None]
"""What each check has found; ``None`` for one that could not run, since another is broken."""


def verdict(claim: Claim, found: Found) -> Verdict:
    """What becomes of a claim. A broken rule breaks the claims that name it, and leaves others
    that need the same check unproven; so does what is open."""
    if claim.missing is not None:
        return "missing"
    outcomes = [found[name] for name in claim.checks]
    against = [each for outcome in outcomes for each in outcome or ()]
    breaches = (each for each in against if not each.is_open)
    if any(each.rule is None or each.rule in claim.rules for each in breaches):
        return "broken"
    return "unproven" if against or None in outcomes else "holds"


def check(config: Config, canaries: Sequence[str], search: Search) -> Found:
    """Run all checks. That they have read the store is noted in the ledger, unless the ledger does
    not hold: then nothing of it is touched.

    Raises ``SchemaError`` and ``ConfigFaults`` for what is wrong with the documents beyond the
    rules that carry claims, what the pipeline's parts raise, and what noting raises.
    """
    found: dict[Check, tuple[Against, ...] | None] = dict.fromkeys(CHECKS)
    schema, found["policy"] = _policy(config.schema_)
    if schema is None:
        return found
    matrix, found["flows"] = _flows(config, schema)
    if matrix is None:
        return found
    with tempfile.TemporaryDirectory(prefix="collector-claims-") as name:
        folder = Path(name)
        passage = pass_through(matrix, folder, canaries)
        has_run = config.data is not None and config.data.is_dir()
        holdings = Holdings.of(config) if has_run else None
        found["canaries"] = _all(_canaries(passage, folder, canaries, search))
        found["delivery"] = _all(_delivery(passage, matrix))
        found["consent"] = _all(_consent(matrix, folder / "refused", canaries))
        found["ledger"] = _all(_ledger(passage, holdings))
        if holdings is not None and holdings.spool.is_file() and not found["ledger"]:
            for which, against in _running(holdings.spool, matrix):
                found[which] = (*(found[which] or ()), against)
            if holdings.store.is_file():
                note(holdings.data, Note.of("read", command="claims", rows=_rows(holdings.store)))
        found["retention"] = _all(_retention(passage, holdings, schema))
    return found


def _policy(reference: str) -> tuple[Schema | None, tuple[Against, ...]]:
    """The schema, or the policies that it breaks."""
    schema, faults = parse(reference)
    if any(not fault.code.startswith("E3") for fault in faults):
        raise SchemaError(faults)
    return schema, tuple(Against(str(fault), fault.code) for fault in faults)


def _flows(config: Config, schema: Schema) -> tuple[Flows | None, tuple[Against, ...]]:
    """The flow matrix, or what it breaks; also what the matrix itself says that it may not."""
    faults: tuple[Fault, ...] = ()
    try:
        matrix = flows(config, schema)
    except ConfigFaults as error:
        faults = error.faults
    if faults:
        if any(not fault.code.startswith("E3") for fault in faults):
            raise ConfigFaults(faults)
        return None, tuple(Against(str(fault), fault.code) for fault in faults)
    against: list[Against] = []
    for flow in matrix.flows:
        for use in (schema.purposes[name].use for name in flow.purposes):
            if not use_is_allowed(use):
                against.append(Against(f"{flow.field}: {CODES['E301']}", "E301"))
            if matrix.sinks[flow.sink].party == "third" and use != LEGAL:
                against.append(Against(f"{flow.sink}: {CODES['E309']}", "E309"))
    return matrix, tuple(against)


def _canaries(
    passage: Passage, folder: Path, canaries: Sequence[str], search: Search
) -> Iterator[Against]:
    """Nothing of what was planted is in anything that was written; and it would have been found."""
    if hits := len(search([folder], canaries)):
        yield Against(f"content was written: {hits} places hold what was planted in it")
    yield from _admitted(passage)
    if not passage.tally.content:
        yield Against("no content was met, which shows nothing", is_open=True)
    plant = folder / "plant"
    plant.write_text(f"before {canaries[-1]} after")
    if not search([plant], canaries):
        yield Against("the search does not find what is there", is_open=True)


def _admitted(passage: Passage) -> Iterator[Against]:
    if not passage.tally.admitted:
        message = "nothing was admitted, which shows nothing: give the schema a test"
        yield Against(message, is_open=True)


def _delivery(passage: Passage, matrix: Flows) -> Iterator[Against]:
    """Each sink got what the matrix says, and nothing else."""
    yield from _admitted(passage)
    for name in matrix.sinks:
        for field in sorted(passage.fields[name] - set(matrix.to(name))):
            yield Against(f"{name}: it received {field}, which is not to go there")


def _consent(matrix: Flows, folder: Path, canaries: Sequence[str]) -> Iterator[Against]:
    """Where somebody refuses all that is optional, nothing that is for it alone gets anywhere."""
    schema = matrix.schema
    needed = [name for name, purpose in schema.purposes.items() if not purpose.optional]
    for name, fields in pass_refused(matrix, folder, canaries).items():
        for field in sorted(fields - set(entitled(schema, matrix.sinks[name].purposes, needed))):
            yield Against(f"{name}: it received {field}, although that was refused")


def _retention(passage: Passage, holdings: Holdings | None, schema: Schema) -> Iterator[Against]:
    """What is too old goes, and in the data directory nothing is older than it may be."""
    if passage.stale:
        yield Against(f"{passage.stale} records stayed that are too old")
    if holdings is not None:
        yield from map(Against, overdue(holdings, schema))


def _ledger(passage: Passage, holdings: Holdings | None) -> Iterator[Against]:
    """All is accounted for: what went through just now, and what the ledger has counted so far."""
    if holdings is not None and holdings.store.is_file() and not holdings.spool.is_file():
        yield Against("there is a store, and no ledger of what came into it", is_open=True)
    for path in (passage.spool, holdings.spool if holdings else None):
        if path is not None and path.is_file():
            with opened(path) as ledger:
                yield from (Against(f"ledger: {flaw}") for flaw in ledger.verify().flaws)
    with opened(passage.spool) as ledger:
        if ledger.tally().as_dict() != passage.tally.as_dict():
            yield Against("the ledger does not count what the filter has counted")


def _running(spool: Path, matrix: Flows) -> Iterator[tuple[Check, Against]]:
    """What is shown is shown of a schema and of settings. They must be those of the sidecar that
    has the directory, or had it last."""
    with opened(spool) as ledger:
        digest, settings = ledger.digest("schema"), ledger.digest("configuration")
        before = (ledger.document(settings) or b"").split(b"\n")[0]
    if digest not in (None, matrix.schema.digest):
        message = "the sidecar last ran with another schema: name its configuration, or restart it"
        yield "policy", Against(message, is_open=True)
    if rerouting.verdict(rerouting.since(before, matrix)) in ("widening", "narrowing"):
        message = "the sidecar last ran with other flows: name its configuration, or restart it"
        yield "flows", Against(message, is_open=True)


def _rows(store: Path) -> int | None:
    """How many rows there are to look at; ``None`` where that cannot be read."""
    with suppress(DeliveryError), reading(store) as db:
        return sum(looked(lambda: list(_counts(db))))
    return None


def _counts(db: sqlite3.Connection) -> Iterator[int]:
    for table in tables(db):
        yield db.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0]  # noqa: S608


def _all(found: Iterator[Against]) -> tuple[Against, ...]:
    """All that is found; what cannot be read speaks against it too."""
    against: list[Against] = []
    try:
        against.extend(found)
    except DeliveryError as error:
        against.append(Against(error.message))
    return tuple(against)
