"""Verify claims: run the checks that they name against a configuration and its data directory.

A check reports findings. No finding contains a value: it names the rule, the field or the sink, and
a count. Most checks look at a dry run (``dry_run``) in a temporary directory.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from collector.claims.document import CHECKS, Check
from collector.claims.dry_run import DryRun, Outcome
from collector.claims.findings import ACCESS, Against, ClaimFinding, Found, unread
from collector.claims.own_files import clear_unfinished
from collector.claims.stored_fields import mismatches
from collector.config import Config
from collector.config.sink_settings import is_sink_name
from collector.errors import (
    CODES,
    CollectorError,
    ConfigError,
    ConfigFaults,
    DeliveryError,
    Fault,
    SchemaError,
    UnreadableBatch,
    UnreadableFile,
    file_name,
)
from collector.filter.redaction import EVERYTHING
from collector.ledger import Note, opened
from collector.retention.earlier import in_force, noted_copies, ran_elsewhere
from collector.retention.locations import Locations
from collector.retention.upkeep import overdue
from collector.routing import LEGAL, Flows, all_flows, changes, entitled
from collector.routing.schemas import configured, reviewed
from collector.schema.model import Schema
from collector.schema.names.scope import scope
from collector.schema.policy import use_is_allowed
from collector.schema.review import Review
from collector.sinks.sink import expiry_of, in_place, is_erasable
from collector.spool import note
from collector.spool.lock import FILE_NAME as LOCK_NAME
from collector.spool.lock import Lock
from collector.units import duration_text

_T = TypeVar("_T")
Search = Callable[[Iterable[Path], Sequence[str]], Collection[object]]
"""Finds texts in files and directories, however they are packed: ``collector.testing.scan``."""

_NO_DATA = ClaimFinding("There is no data directory, so nothing stored was checked.", is_note=True)
_REPORT = "Do not rely on this version of Collector, and report this as SECURITY.md says."
_PRUNE = "Run `collector store prune`. If this stays, see docs/rights.md."
_LEDGER = "Run `collector ledger verify`, and find out who changed the file."
_RELOAD = "Run `collector config reload`, or restart the sidecar, then run this again."
_OTHER_CONFIGURATION = (
    "Name the sidecar's configuration with `--config`, or restart it with this one."
)
"""What a reader can do about several findings."""


def check(
    config: Config,
    canaries: Sequence[str],
    search: Search,
    *,
    meetings: int = 200,
    file: Path | None = None,
) -> Found:
    """Run all checks of telemetry, with ``meetings`` synthetic meetings. The ledger notes that the
    checks read the store, unless the ledger does not hold: then we leave it unchanged. ``file`` is
    the configuration's file, which commands in advice name.

    Raises ``SchemaError`` and ``ConfigFaults`` for faults of the documents other than broken rules
    that carry claims, and what the pipeline's parts raise.
    """
    found: dict[Check, tuple[ClaimFinding, ...] | None] = dict.fromkeys(CHECKS)
    schemas, found["policy"] = _policy(config)
    if not schemas:
        return found
    found["scope"] = _of_each({schema.name: schema for schema in schemas}, scope_findings)
    reviews = reviewed(config, schemas)
    commands = review_commands(config, schemas, file)
    found["review"] = _of_each(
        {name: (each, commands[name]) for name, each in reviews.items()},
        lambda pair: review_findings(*pair),
    )
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
        if locations is not None:
            _settle(locations)
        found["canaries"] = _of_each(runs, lambda outcome: _canaries(outcome, search))
        found["delivery"] = _of_each(runs, _delivery)
        found["consent"] = _of_each(runs, _consent)
        found["retention"] = _of_each(runs, _retention)
        found["ledger"] = ledger = _of_each(runs, _counted)
        found["stored"] = () if has_run else (_NO_DATA,)
    if locations is not None:
        found["ledger"] = ledger = (*ledger, *_all(_ledger(locations)))
        for which, each in _in_data(config, locations, [*by_name.values()], reviews, not ledger):
            found[which] = tuple(dict.fromkeys((*(found[which] or ()), each)))
    return found


def _in_data(
    config: Config,
    locations: Locations,
    matrices: Sequence[Flows],
    reviews: Mapping[str, Review],
    has_ledger: bool,
) -> Iterator[Against]:
    """Check a data directory without verifying its ledger. ``has_ledger`` says whether the ledger
    holds."""
    sockets = [each.resolve() for each in (config.http.unix, config.recorder.unix) if each]
    try:
        yield from mismatches(locations, matrices, reviews, sockets)
    except DeliveryError as error:
        yield "stored", _failure(error)
    if has_ledger and locations.spool.is_file():
        yield from _running(locations.spool, matrices, reviews)
        yield from (("ledger", each) for each in _noted(locations))
        if ran_elsewhere(locations.data, config.sinks.on()):
            message = "The sidecar last wrote to other sinks than this configuration names."
            yield "stored", ClaimFinding(message, is_open=True, advice=_OTHER_CONFIGURATION)
    elif locations.spool.is_file():
        message = "The ledger is damaged, so it cannot say where else records were written."
        yield "stored", ClaimFinding(message, is_open=True, advice=_LEDGER)
    late = (ClaimFinding(sentence(each), advice=_PRUNE) for each in overdue(locations))
    yield from (("retention", each) for each in _all(late))


def _noted(locations: Locations) -> Iterator[ClaimFinding]:
    """Note in the ledger that records were read. Yield an open finding if that fails."""
    if (rows := _rows(locations)) == 0:
        return
    with suppress(ConfigError, DeliveryError):
        note(locations.data, Note.of("read", command="claims", rows=rows))
        return
    yield ClaimFinding(
        "The ledger could not note that records were read, as it cannot be written.",
        is_open=True,
        advice="Run this where the data directory can be written, as the sidecar's user.",
    )


def _settle(locations: Locations) -> None:
    """Finish or undo what a killed sidecar has begun, as the next start does: checks would take its
    partial files for foreign ones. A running sidecar has done so itself. A directory without a lock
    file has never had a sidecar, so there is nothing to finish."""
    if not (locations.data / LOCK_NAME).is_file():
        return
    with suppress(CollectorError):
        lock = Lock(locations.data)
        try:
            clear_unfinished(locations)
            with locations.opened() as sinks:
                for sink in sinks.values():
                    with suppress(CollectorError):
                        sink.settle()
        finally:
            lock.release()


def _of_each(
    parts: Mapping[str, _T], look: Callable[[_T], Iterator[ClaimFinding]]
) -> tuple[ClaimFinding, ...]:
    """Collect the findings of each schema. If there are several, each finding names its schema."""
    return tuple(
        each
        if len(parts) == 1
        else each._replace(message=f"Schema `{name}`: {each.message}", schema=name)
        for name, part in parts.items()
        for each in _all(look(part))
    )


def _policy(config: Config) -> tuple[tuple[Schema, ...], tuple[ClaimFinding, ...]]:
    """Return the schemas, or none and the findings for the policies that they break."""
    try:
        schemas = configured(config)
    except SchemaError as error:
        faults = error.faults
    else:
        return schemas, ()
    if any(not fault.is_policy for fault in faults):
        raise SchemaError(faults)
    return (), tuple(map(_of_fault, faults))


def _of_fault(fault: Fault) -> ClaimFinding:
    """Return the finding for a rule that a document breaks."""
    where = f"line {fault.line} of {file_name(Path(fault.file))}"
    if not fault.line:
        where = "the configuration"
    place = f"`{fault.field}` in {where}" if fault.field else where
    advice = f"Change {place}, then run this again."
    of = f" (`{fault.field}`)" if fault.field else ""
    reason = sentence(f"{CODES[fault.code].title}{of}")
    return ClaimFinding(reason, fault.code, advice=f"{sentence(fault.message)} {advice}")


def sentence(text: str) -> str:
    """Return the message of an error as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def scope_findings(schema: Schema) -> Iterator[ClaimFinding]:
    """Yield what is collected beyond the address, the device and the operating system."""
    beyond = scope(schema)
    for name in beyond.without_sentence:
        yield ClaimFinding(
            f"`{name}` is collected, and no sentence tells the public.",
            advice=f"Add a sentence for `{name}` to `also_collected` in the schema, or remove it.",
        )
    for text in beyond.sentences:
        yield ClaimFinding(f"Also collected: {text}", amends=True)


def review_commands(config: Config, schemas: Sequence[Schema], file: Path | None) -> dict[str, str]:
    """Return the command by which a person reviews the fields of each schema, by its name."""
    named = [] if file is None else ["--config", str(file)]
    return {
        schema.name: shlex.join(["collector", "schema", "review", reference, *named])
        for reference, schema in zip(config.references, schemas, strict=True)
    }


def review_findings(
    found: Review, command: str = "collector schema review"
) -> Iterator[ClaimFinding]:
    """Yield the fields that nobody has approved in their current form, and what we collect besides
    the sentences of the claims, with the person to whom each approval is attributed."""
    for each in found.unapproved:
        yield ClaimFinding(
            each.reason,
            is_open=True,
            advice=f"Have someone review it: `{command}`.",
        )
    for addition in found.additions:
        yield ClaimFinding(f"Also collected: {addition}", amends=True)


def _flows(
    config: Config, schemas: Sequence[Schema]
) -> tuple[Mapping[str, Flows], tuple[ClaimFinding, ...]]:
    """Return the flow matrix of each schema by its name, and findings for entries that break rules;
    or no matrix and the findings for the rules that the configuration breaks."""
    faults: tuple[Fault, ...] = ()
    try:
        matrices = all_flows(config, schemas)
    except ConfigFaults as error:
        faults = error.faults
    if faults:
        if any(not fault.is_policy for fault in faults):
            raise ConfigFaults(faults)
        return {}, tuple(map(_of_fault, faults))
    by_name = {matrix.schema.name: matrix for matrix in matrices}
    return by_name, _of_each(by_name, _entries)


def _entries(matrix: Flows) -> Iterator[ClaimFinding]:
    for flow in matrix.flows:
        for use in (matrix.schema.purposes[name].use for name in flow.purposes):
            if not use_is_allowed(use):
                yield ClaimFinding(
                    f"`{flow.field}` would be used for `{use}`, which is not allowed.",
                    "E301",
                    advice="Give the field another purpose in the schema, or remove it.",
                )
            if matrix.sinks[flow.sink].party == "third" and use != LEGAL:
                yield ClaimFinding(
                    f"The sink `{flow.sink}` belongs to a third party, which would receive"
                    f" `{flow.field}` without a legal obligation.",
                    "E309",
                    advice=f"Remove the sink `{flow.sink}`, or limit its `purposes`.",
                )


def _canaries(outcome: Outcome, search: Search) -> Iterator[ClaimFinding]:
    """Check that no planted content was written, and that the search would find it."""
    folder, canaries = outcome.run.folder, outcome.run.canaries
    if hits := len(search([folder], canaries)):
        message = f"A test run wrote meeting content to {_number(hits, 'place')} on disk."
        yield ClaimFinding(message, advice=_REPORT)
    yield from _admitted(outcome)
    if not outcome.tally.content:
        yield ClaimFinding(
            "The test events held no meeting content, so the test run shows nothing.",
            is_open=True,
            advice="Add an event with meeting content to `tests` in the schema.",
        )
    plant = folder / "plant"
    plant.write_text(f"before {canaries[-1]} after")
    if not search([plant], canaries):
        message = "The search for meeting content missed a text that was planted for it."
        yield ClaimFinding(message, is_open=True, advice=_REPORT)


def _admitted(outcome: Outcome) -> Iterator[ClaimFinding]:
    if not outcome.tally.admitted:
        yield ClaimFinding(
            "The schema admitted none of the test events, so the test run shows nothing.",
            is_open=True,
            advice="Add an event that the schema admits to its `tests`.",
        )


def _delivery(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that each sink got only the fields that the matrix states."""
    yield from _admitted(outcome)
    for name in outcome.run.flows.sinks:
        for field in sorted(outcome.fields[name] - set(outcome.run.flows.to(name))):
            message = f"In a test run the sink `{name}` received `{field}`, which it must not get."
            yield ClaimFinding(message, advice=_REPORT)


def _consent(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that no sink gets a field that is only for purposes that a person refuses."""
    run, matrix, schema = outcome.run, outcome.run.flows, outcome.run.flows.schema
    needed = [name for name, purpose in schema.purposes.items() if not purpose.optional]
    for name, fields in replace(run, folder=run.folder / "refused").refused().items():
        for field in sorted(fields - set(entitled(schema, matrix.sinks[name].purposes, needed))):
            message = f"In a test run the sink `{name}` received `{field}`, which was refused."
            yield ClaimFinding(message, advice=_REPORT)


def _retention(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check that records are deleted in time, by pruning or by the sink itself."""
    matrix = outcome.run.flows
    if outcome.stale:
        message = f"A test run left expired records in {_number(outcome.stale, 'table or file')}."
        yield ClaimFinding(message, advice=_REPORT)
    for name in (name for name, sink in matrix.sinks.items() if not is_erasable(sink)):
        expires = expiry_of(matrix.sinks[name])
        shortest = min((matrix.schema.retentions[field] for field in matrix.to(name)), default=None)
        if expires is None:
            yield ClaimFinding(
                f"Collector cannot read how long the sink `{name}` keeps records.",
                is_open=True,
                advice=f"State it in `sinks.{name}.expires`, or give Collector the right to read"
                " it there.",
            )
        elif shortest is not None and expires > shortest:
            yield ClaimFinding(
                f"The sink `{name}` keeps records longer than the schema allows.",
                advice=f"Let them expire there within {duration_text(shortest.total_seconds())}.",
            )


def _counted(outcome: Outcome) -> Iterator[ClaimFinding]:
    """Check the ledger of the dry run, and its counts."""
    yield from _flaws(outcome.spool)
    with opened(outcome.spool) as ledger:
        if ledger.tally().as_dict() != outcome.tally.as_dict():
            message = "In a test run the ledger did not count what the filter counted."
            yield ClaimFinding(message, advice=_REPORT)


def _ledger(locations: Locations) -> Iterator[ClaimFinding]:
    """Check the ledger of the data directory."""
    if locations.spool.is_file():
        yield from _flaws(locations.spool)
    elif (rows := _rows(locations)) != 0:
        yield ClaimFinding(
            f"There {'are' if rows else 'may be'} records, and no ledger that says where they"
            " came from.",
            is_open=True,
            advice="Name the data directory of the sidecar with `--data`.",
        )


def _flaws(spool: Path) -> Iterator[ClaimFinding]:
    with opened(spool) as ledger:
        audit = ledger.verify()
    for flaw in audit.flaws:
        yield ClaimFinding(f"The ledger is damaged or was changed ({flaw}).", advice=_LEDGER)
    if audit.signed and not audit.is_checked:
        message = "The ledger's signatures were not checked."
        advice = "Install the extra `signing`, then run this again."
        yield ClaimFinding(message, is_open=True, advice=advice)


def _running(
    spool: Path, matrices: Sequence[Flows], reviews: Mapping[str, Review]
) -> Iterator[Against]:
    """Check that schemas, approved copies and settings are the same as those of the sidecar that
    uses the directory, or used it last."""
    with opened(spool) as ledger:
        digests, settings = {*in_force(ledger).values()}, ledger.digest("configuration")
        before, _, rest = (ledger.document(settings) or b"").partition(b"\n")
    noted, found = noted_copies(rest), {name: each.copy.state for name, each in reviews.items()}
    if noted is not None and noted != found and any(each.fields for each in reviews.values()):
        message = "The sidecar runs with an earlier approved copy of the schema."
        yield "review", ClaimFinding(message, is_open=True, advice=_RELOAD)
    if digests and digests != {matrix.schema.digest for matrix in matrices}:
        message = "The sidecar last ran with another schema."
        yield "policy", ClaimFinding(message, is_open=True, advice=_OTHER_CONFIGURATION)
    if changes.verdict(changes.since(before, *matrices)) in ("widening", "narrowing"):
        message = "The sidecar last sent other fields to its sinks than this configuration says."
        yield "flows", ClaimFinding(message, is_open=True, advice=_OTHER_CONFIGURATION)


def _rows(locations: Locations) -> int | None:
    """Return the number of records in sinks; ``None`` if a sink cannot be read."""
    number = 0
    with locations.opened() as sinks:
        for name, sink in sinks.items():
            try:
                with in_place(name, sink):
                    if sink.exists:
                        number += sum(each.records for each in sink.measure(EVERYTHING))
            except DeliveryError:
                return None
    return number


def _all(found: Iterator[ClaimFinding]) -> tuple[ClaimFinding, ...]:
    """Collect findings. If something cannot be read, add a finding for that."""
    against: list[ClaimFinding] = []
    try:
        against.extend(found)
    except DeliveryError as error:
        against.append(_failure(error))
    return tuple(against)


def _failure(error: DeliveryError) -> ClaimFinding:
    """Return the finding for a location that cannot be read. It is open for a sink that does not
    answer."""
    if error.code == "E507" and not isinstance(error, UnreadableBatch | UnreadableFile):
        message = "The ledger could not be read: its file is damaged, or not Collector's."
        return ClaimFinding(message, advice=_LEDGER)
    where, _, _ = error.message.partition(": ")  # ``in_place`` puts the name of the sink before it
    if is_sink_name(where):
        return unread(where, error)
    return ClaimFinding(sentence(error.message), is_open=True, advice=ACCESS)


def _number(times: int, what: str) -> str:
    return f"{times:,} {what}{'' if times == 1 else 's'}"
