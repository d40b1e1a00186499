"""Verify claims: run the checks that they name against a configuration and its data directory.

A check finds faults, and one that finds none holds. No fault contains a value: it names the rule,
the field or the sink, and states how many. Most checks look at a dry run (``dry_run``), in a
temporary directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from collector.claims.document import CHECKS, Check, Claim
from collector.claims.dry_run import DryRun, Outcome
from collector.claims.stored_fields import mismatches
from collector.config import Config
from collector.errors import (
    CODES,
    ConfigFaults,
    DeliveryError,
    Fault,
    SchemaError,
    Unreachable,
    UnreadableFile,
)
from collector.ledger import Note, opened
from collector.retention.earlier import in_force, noted_copies, ran_elsewhere
from collector.retention.locations import Locations
from collector.retention.upkeep import overdue
from collector.routing import LEGAL, Flows, all_flows, changes, entitled
from collector.routing.schemas import configured
from collector.schema.model import Schema
from collector.schema.names.scope import scope
from collector.schema.policy import use_is_allowed
from collector.schema.review import Review, read_copy, review
from collector.sinks.sink import (
    expiry_of,
    is_erasable,
)
from collector.spool import note

_T = TypeVar("_T")
Search = Callable[[Iterable[Path], Sequence[str]], Collection[object]]
"""Finds texts in files and directories, however they are packed: ``collector.testing.scan``."""

Verdict = Literal["holds", "amended", "broken", "unproven", "missing"]
"""``amended``, which is shown as "holds with additions": more is collected than the sentence says,
another sentence says so, and each field of it has an approval."""


class ClaimFinding(NamedTuple):
    """A finding against a claim; ``rule`` is the code of the broken rule, if it is one. ``is_open``
    is true if nothing is shown either way, for example because there was nothing to check.
    ``amends`` is true for a sentence to be published too, ``is_note`` for what is to be read beside
    the verdict and changes none."""

    message: str
    rule: str | None = None
    is_open: bool = False
    amends: bool = False
    is_note: bool = False
    schema: str = ""
    """The schema that it is about, where there are several and it is about one."""


Found = Mapping[Check, tuple[ClaimFinding, ...] | None]
"""The findings of each check; ``None``, or nothing, for one that did not run."""


def verdict(claim: Claim, found: Found, schema: str | None = None) -> Verdict:
    """Return the verdict on a claim, or on it for one schema of several. A broken rule breaks the
    claims that name it, and leaves others that need its check unproven, as open findings do."""
    if claim.missing is not None:
        return "missing"
    outcomes = [found.get(name) for name in claim.checks]
    findings = [each for outcome in outcomes for each in outcome or () if not each.is_note]
    if schema is not None:
        findings = [each for each in findings if each.schema in ("", schema)]
    against = [each for each in findings if not each.amends]
    breaches = (each for each in against if not each.is_open)
    if any(each.rule is None or each.rule in claim.rules for each in breaches):
        return "broken"
    if against or None in outcomes:
        return "unproven"
    return "amended" if findings else "holds"


def additions(claim: Claim, found: Found) -> tuple[str, ...]:
    """Return what is collected besides an ``amended`` claim, with whom the approval is attributed
    to; the sentences alone for a claim that does not ask whether somebody has approved it."""
    names: tuple[Check, ...] = ("review",) if "review" in claim.checks else claim.checks
    findings = (each for name in names for each in found.get(name) or ())
    return tuple(dict.fromkeys(each.message for each in findings if each.amends))


def check(config: Config, canaries: Sequence[str], search: Search, *, meetings: int = 200) -> Found:
    """Run all checks of telemetry, with so many synthetic meetings. The ledger notes that they have
    read the store, unless the ledger does not hold: then it is left as it is.

    Raises ``SchemaError`` and ``ConfigFaults`` for what is wrong with the documents beyond the
    rules that carry claims, what the pipeline's parts raise, and what noting raises.
    """
    found: dict[Check, tuple[ClaimFinding, ...] | None] = dict.fromkeys(CHECKS)
    schemas, found["policy"] = _policy(config)
    if not schemas:
        return found
    found["scope"] = _of_each({schema.name: schema for schema in schemas}, scope_findings)
    reviews = reviewed(config, schemas)
    found["review"] = _of_each(reviews, review_findings)
    by_name, found["flows"] = _flows(config, schemas)
    if not by_name:
        return found
    with tempfile.TemporaryDirectory(prefix="collector-claims-") as name:
        runs = {
            key: DryRun(matrix, Path(name) / key, canaries, meetings).granted()
            for key, matrix in by_name.items()
        }
        has_run = config.data is not None and config.data.is_dir()
        locations = Locations.of(config, schemas) if has_run else None
        found["canaries"] = _of_each(runs, lambda outcome: _canaries(outcome, search))
        found["delivery"] = _of_each(runs, _delivery)
        found["consent"] = _of_each(runs, _consent)
        found["ledger"] = (*_of_each(runs, _counted), *_all(_ledger(locations)))
        found["stored"], matrices = (), tuple(by_name.values())
        if locations is not None:
            for which, against in _stored(
                locations, matrices, reviews, has_ledger=not found["ledger"]
            ):
                found[which] = tuple(dict.fromkeys((*(found[which] or ()), against)))
        if locations is not None and locations.spool.is_file() and not found["ledger"]:
            for which, against in _running(locations.spool, matrices, reviews):
                found[which] = (*(found[which] or ()), against)
            if _is_any(locations):
                note(locations.data, Note.of("read", command="claims", rows=_rows(locations)))
            if ran_elsewhere(locations.data, config.sinks.on()):
                message = "the sidecar last wrote to other places: name its configuration"
                found["stored"] = (*(found["stored"] or ()), ClaimFinding(message, is_open=True))
        late = () if locations is None else _all(map(ClaimFinding, overdue(locations)))
        found["retention"] = (*_of_each(runs, _retention), *late)
    return found


def _of_each(
    parts: Mapping[str, _T], look: Callable[[_T], Iterator[ClaimFinding]]
) -> tuple[ClaimFinding, ...]:
    """Collect the findings of each schema; of several, each finding says of which it is."""
    return tuple(
        each if len(parts) == 1 else each._replace(message=f"{name}: {each.message}", schema=name)
        for name, part in parts.items()
        for each in _all(look(part))
    )


def _policy(config: Config) -> tuple[tuple[Schema, ...], tuple[ClaimFinding, ...]]:
    """Return the schemas, or none and the policies that they break."""
    try:
        schemas = configured(config)
    except SchemaError as error:
        faults = error.faults
    else:
        return schemas, ()
    if any(not fault.is_policy for fault in faults):
        raise SchemaError(faults)
    return (), tuple(ClaimFinding(str(fault), fault.code) for fault in faults)


def scope_findings(schema: Schema) -> Iterator[ClaimFinding]:
    """Yield what is collected beyond the address, the device and the operating system."""
    beyond = scope(schema)
    for name in beyond.without_sentence:
        yield ClaimFinding(f"{name}: neither the claim nor a sentence of the schema speaks of it")
    for text in beyond.sentences:
        yield ClaimFinding(f"to be published too: {text}", amends=True)


def reviewed(config: Config, schemas: Sequence[Schema]) -> dict[str, Review]:
    """Compare the schemas of a configuration with their approved copies, by their names."""
    places = map(config.approved_copy, config.references)
    return {
        schema.name: review(schema, read_copy(place))
        for schema, place in zip(schemas, places, strict=True)
    }


def review_findings(found: Review) -> Iterator[ClaimFinding]:
    """Yield the fields that nobody has approved as they are, and what is collected besides the
    sentences of the claims, with whom its approval is attributed to."""
    for each in found.unapproved:
        yield ClaimFinding(f"{each.name}: {each.why}", is_open=True)
    for addition in found.additions:
        yield ClaimFinding(f"also collected: {addition}", amends=True)


def _flows(
    config: Config, schemas: Sequence[Schema]
) -> tuple[Mapping[str, Flows], tuple[ClaimFinding, ...]]:
    """Return the flow matrix of each schema by its name, or none and the rules that they break; in
    their entries too."""
    faults: tuple[Fault, ...] = ()
    try:
        matrices = all_flows(config, schemas)
    except ConfigFaults as error:
        faults = error.faults
    if faults:
        if any(not fault.is_policy for fault in faults):
            raise ConfigFaults(faults)
        return {}, tuple(ClaimFinding(str(fault), fault.code) for fault in faults)
    by_name = {matrix.schema.name: matrix for matrix in matrices}
    return by_name, _of_each(by_name, _entries)


def _entries(matrix: Flows) -> Iterator[ClaimFinding]:
    for flow in matrix.flows:
        for use in (matrix.schema.purposes[name].use for name in flow.purposes):
            if not use_is_allowed(use):
                yield ClaimFinding(f"{flow.field}: {CODES['E301'].title}", "E301")
            if matrix.sinks[flow.sink].party == "third" and use != LEGAL:
                yield ClaimFinding(f"{flow.sink}: {CODES['E309'].title}", "E309")


def _canaries(outcome: Outcome, search: Search) -> Iterator[ClaimFinding]:
    """Check that no planted content was written, and that the search would find it."""
    folder, canaries = outcome.run.folder, outcome.run.canaries
    if hits := len(search([folder], canaries)):
        yield ClaimFinding(f"content was written: {hits} places hold what was planted in it")
    yield from _admitted(outcome)
    if not outcome.tally.content:
        yield ClaimFinding("no content was met, which shows nothing", is_open=True)
    plant = folder / "plant"
    plant.write_text(f"before {canaries[-1]} after")
    if not search([plant], canaries):
        yield ClaimFinding("the search does not find what is there", is_open=True)


def _admitted(outcome: Outcome) -> Iterator[ClaimFinding]:
    if not outcome.tally.admitted:
        message = "nothing was admitted, which shows nothing: give the schema a test"
        yield ClaimFinding(message, is_open=True)


def _delivery(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that each sink got only the fields that the matrix states."""
    yield from _admitted(outcome)
    for name in outcome.run.flows.sinks:
        for field in sorted(outcome.fields[name] - set(outcome.run.flows.to(name))):
            yield ClaimFinding(f"{name}: it received {field}, which is not to go there")


def _stored(
    locations: Locations,
    matrices: Sequence[Flows],
    reviews: Mapping[str, Review],
    *,
    has_ledger: bool,
) -> Iterator[tuple[Check, ClaimFinding]]:
    """Check that each location has only fields that it may have, and values of their kinds."""
    try:
        for each in mismatches(locations, matrices, reviews):
            named = each.schema if len(matrices) > 1 else ""
            facts = each.message, each.rule, each.is_open, each.amends
            yield each.check, ClaimFinding(*facts, schema=named)
    except DeliveryError as error:
        yield "stored", _failure(error)
    if not has_ledger and locations.spool.is_file():
        message = "where else something was written is not known, as the ledger does not hold"
        yield "stored", ClaimFinding(message, is_open=True)


def _consent(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that no field reaches a sink that is only for purposes which a person refuses."""
    run, matrix, schema = outcome.run, outcome.run.flows, outcome.run.flows.schema
    needed = [name for name, purpose in schema.purposes.items() if not purpose.optional]
    for name, fields in replace(run, folder=run.folder / "refused").refused().items():
        for field in sorted(fields - set(entitled(schema, matrix.sinks[name].purposes, needed))):
            yield ClaimFinding(f"{name}: it received {field}, although that was refused")


def _retention(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that records go in time: by pruning, or from a sink that deletes them by itself."""
    matrix = outcome.run.flows
    if outcome.stale:
        yield ClaimFinding(f"records stayed that are too old, at {outcome.stale} places")
    for name in (name for name, sink in matrix.sinks.items() if not is_erasable(sink)):
        expires = expiry_of(matrix.sinks[name])
        shortest = min((matrix.schema.retentions[field] for field in matrix.to(name)), default=None)
        if expires is None:
            yield ClaimFinding(f"{name}: how long it keeps records cannot be read", is_open=True)
        elif shortest is not None and expires > shortest:
            yield ClaimFinding(f"{name}: it keeps records for longer than the schema says")


def _counted(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check the ledger of the dry run, and its counts."""
    yield from _flaws(outcome.spool)
    with opened(outcome.spool) as ledger:
        if ledger.tally().as_dict() != outcome.tally.as_dict():
            yield ClaimFinding("the ledger does not count what the filter has counted")


def _ledger(locations: Locations | None) -> Iterator[ClaimFinding]:
    """Check the ledger of the data directory."""
    if locations is not None and locations.spool.is_file():
        yield from _flaws(locations.spool)
    elif locations is not None and _is_any(locations):
        yield ClaimFinding("there are records, and no ledger of what came into it", is_open=True)


def _flaws(spool: Path) -> Iterator[ClaimFinding]:
    with opened(spool) as ledger:
        yield from (ClaimFinding(f"ledger: {flaw}") for flaw in ledger.verify().flaws)


def _running(
    spool: Path, matrices: Sequence[Flows], reviews: Mapping[str, Review]
) -> Iterator[tuple[Check, ClaimFinding]]:
    """Check that schemas, approved copies and settings are those of the sidecar that has the
    directory, or had it last."""
    with opened(spool) as ledger:
        digests, settings = {*in_force(ledger).values()}, ledger.digest("configuration")
        before, _, rest = (ledger.document(settings) or b"").partition(b"\n")
    noted, found = noted_copies(rest), {name: each.copy.state for name, each in reviews.items()}
    if noted is not None and noted != found and any(each.fields for each in reviews.values()):
        message = (
            "the approved copy is not the one that the sidecar last ran with:"
            " `collector config reload`, or restart it"
        )
        yield "review", ClaimFinding(message, is_open=True)
    if digests and digests != {matrix.schema.digest for matrix in matrices}:
        message = "the sidecar last ran with another schema: name its configuration, or restart it"
        yield "policy", ClaimFinding(message, is_open=True)
    if changes.verdict(changes.since(before, *matrices)) in ("widening", "narrowing"):
        message = "the sidecar last ran with other flows: name its configuration, or restart it"
        yield "flows", ClaimFinding(message, is_open=True)


def _is_any(locations: Locations) -> bool:
    """Return whether any sink has records."""
    with locations.opened() as sinks:
        for sink in sinks.values():
            with suppress(Unreachable):
                if sink.exists:
                    return True
    return False


def _rows(locations: Locations) -> int | None:
    """Return the number of records in sinks; ``None`` where it cannot be read."""
    with suppress(DeliveryError), locations.opened() as sinks:
        return sum(each.records for sink in sinks.values() for each in sink.inventory())
    return None


def _all(found: Iterator[ClaimFinding]) -> tuple[ClaimFinding, ...]:
    """Collect findings; one more if something cannot be read."""
    against: list[ClaimFinding] = []
    try:
        against.extend(found)
    except DeliveryError as error:
        against.append(_failure(error))
    return tuple(against)


def _failure(error: DeliveryError) -> ClaimFinding:
    """Return the finding for what cannot be read: a server that is silent shows nothing."""
    return ClaimFinding(error.message, is_open=isinstance(error, Unreachable | UnreadableFile))
