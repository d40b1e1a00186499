"""``collector claims``: show each public sentence with its rules, checks, tests and counts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from collector.claims.document import (
    COUNTERS,
    RECORDING_CHECKS,
    SERVING_CHECKS,
    Claim,
    Counter,
    load_all_claims,
)
from collector.claims.verification import (
    ClaimFinding,
    Found,
    Verdict,
    additions,
    check,
    reviewed,
    verdict,
)
from collector.cli.console import err, out, print_json, seen
from collector.cli.data_dir import Data, settings
from collector.cli.options import AsJson
from collector.cli.serve import ConfigFile
from collector.config import Config
from collector.documents import nearest
from collector.errors import CollectorError, DeliveryError
from collector.ledger import opened
from collector.routing.schemas import configured
from collector.spool import FILE_NAME
from collector.testing import canaries, scan

_PLANTED = 12
_GOOD: tuple[Verdict, ...] = ("holds", "amended", "missing")
_SHOWN: dict[Verdict, str] = {"amended": "holds with additions"}
_STYLES: dict[Verdict, str] = {
    "holds": "bold green",
    "amended": "bold green",
    "broken": "bold red",
    "unproven": "bold yellow",
    "missing": "bold yellow",
}


def claims(
    config: ConfigFile = None,
    data: Data = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Run the checks, and exit 1 if a claim is broken or unproven."
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Show this claim only; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show each public claim with the rules, checks and tests that carry it, and with live counts.

    With `--verify` the checks are run against the configuration: events full of canaries go through
    the real pipeline in a temporary directory, the flow matrix is computed, a worker tries whatever
    the kernel is to forbid it, and store and ledger of the data directory are looked at, which is
    noted in the ledger. With a recorder, recordings are
    made in a temporary directory too, and its own are looked at. A sidecar and a recorder may be
    running. docs/claims.md has the details.
    """
    chosen = settings(config, data)
    every, folder = _chosen(load_all_claims(chosen.claims), only or []), chosen.data or Path()
    found: Found | None = None
    if verify:
        found = {
            **check(chosen, canaries(_PLANTED), scan),
            **serving_findings(chosen),
            **recording_findings(chosen),
        }
    verdicts = _verdicts(every, found)
    names = _names(chosen) if found else []
    each_of = {schema: _verdicts(every, found, schema) for schema in names}
    figures: dict[str, Any] = {}
    try:
        figures = _all_figures(chosen, folder / FILE_NAME)
    except DeliveryError as error:
        if found is None:
            raise
        err.print(str(error), markup=False, style="red")
    commands = _to_review(chosen, config) if found else []
    if as_json:
        document = _as_dict(every, figures, found, verdicts, each_of)
        print_json(document | ({"to_review": commands} if found else {}))
    else:
        _print(every, figures, found or {}, verdicts, each_of)
        _print_faults(found or {})
        for command in commands:
            err.print(f"to review these fields: {command}", markup=False)
    if verify and not folder.is_dir():
        err.print("there is no data directory: only the configuration was looked at")
    raise typer.Exit(0 if _is_ok(verdicts) else 1)


def _chosen(every: Mapping[str, Claim], only: Sequence[str]) -> Mapping[str, Claim]:
    """Return the named claims, or all."""
    unknown = [name for name in only if name not in every]
    if unknown:
        hint = nearest(unknown[0], list(every)) or f"; there are {', '.join(every)}"
        raise typer.BadParameter(f"there is no such claim{hint}", param_hint="--only")
    return {name: every[name] for name in dict.fromkeys(only)} if only else every


def _verdicts(
    every: Mapping[str, Claim], found: Found | None, schema: str | None = None
) -> dict[str, Verdict]:
    """Return the verdict on each claim, or what it is for one of several schemas; none where
    nothing was looked at."""
    return {name: verdict(each, found, schema) for name, each in every.items()} if found else {}


def _names(config: Config) -> list[str]:
    """Return the names of the schemas, if there are several and all of them load."""
    if len(config.references) > 1:
        with suppress(CollectorError):
            return [schema.name for schema in configured(config)]
    return []


def _to_review(config: Config, file: Path | None) -> list[str]:
    """Return the commands by which a person reviews what nobody has approved."""
    with suppress(CollectorError):
        found = reviewed(config, configured(config)).values()
        named = [] if file is None else ["--config", str(file)]
        return [
            shlex.join(["collector", "schema", "review", reference, *named])
            for reference, each in zip(config.references, found, strict=True)
            if each.unapproved
        ]
    return []


def _is_ok(verdicts: Mapping[str, Verdict]) -> bool:
    """Return whether every claim holds that something carries."""
    return all(each in _GOOD for each in verdicts.values())


def serving_findings(config: Config) -> Found:
    """Run the checks of processes that receive."""
    try:
        from collector.server.sandbox_check import try_worker  # noqa: PLC0415 - of another extra
    except ImportError:
        message = "no worker could be tried: install the extra `sidecar`"
        return dict.fromkeys(SERVING_CHECKS, (ClaimFinding(message, is_open=True),))
    return try_worker(config)


def _recorder(config: Config) -> Path | None:
    """Return the directory of recordings: one that is there, also where the recorder is off."""
    directory = config.recorder.data or Path()
    return directory if config.recorder.enabled or directory.is_dir() else None


def recording_findings(config: Config) -> Found:
    """Run the checks of recordings; without a recorder nothing is kept, which they say."""
    if (directory := _recorder(config)) is None:
        none = ClaimFinding("no recorder is configured: nothing of a meeting is kept", is_note=True)
        return dict.fromkeys(RECORDING_CHECKS, (none,))
    try:
        from collector.recording.claims import Place, look  # noqa: PLC0415 - of another extra
        from collector.recording.dry_run import run  # noqa: PLC0415
        from collector.recording.settings import bucket_options  # noqa: PLC0415
    except ImportError:
        message = "recordings were not looked at: install the extra `recording`"
        return dict.fromkeys(RECORDING_CHECKS, (ClaimFinding(message, is_open=True),))
    (canary,) = canaries(1)
    place = Place(directory, config.recorder.bucket, bucket_options(config.recorder))
    with TemporaryDirectory(prefix="collector-claims-") as name:
        tried = run(Path(name), canary, scan)
    there = look(place)
    return {check: (*tried[check], *there[check]) for check in RECORDING_CHECKS}


def _all_figures(config: Config, spool: Path) -> dict[str, Any]:
    """Return the counts of the ledgers that there are. Raises ``DeliveryError`` E507."""
    figures: dict[str, Any] = {}
    if spool.is_file():
        with opened(spool) as ledger:
            tally = ledger.tally()
        figures = {name: {} for name in COUNTERS} | tally.as_dict()
        figures["bytes"] = {"in": tally.bytes_in, "out": tally.bytes_out}
    if (directory := _recorder(config)) is not None:
        with suppress(ImportError):
            from collector.recording.claims import counts  # noqa: PLC0415 - of another extra

            figures |= counts(directory) or {}
    return figures


def _figures(counters: tuple[Counter, ...], figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of those names, zero as well; ``None`` if no ledger has one of them."""
    return {name: figures[name] for name in counters if name in figures} or None


def _as_dict(
    every: Mapping[str, Claim],
    figures: Mapping[str, Any],
    found: Found | None,
    verdicts: Mapping[str, Verdict],
    each_of: Mapping[str, Mapping[str, Verdict]],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "claims": [
            {
                "id": name,
                **claim.model_dump(mode="json", exclude_none=True, exclude={"counters"}),
                "figures": _figures(claim.counters, figures),
                **({"verdict": verdicts[name]} if verdicts else {}),
                **_additions(claim, found, verdicts.get(name)),
                **({"verdicts": {s: each_of[s][name] for s in each_of}} if each_of else {}),
            }
            for name, claim in every.items()
        ]
    }
    if found is not None:
        document["checks"] = {
            name: None if against is None else [each.message for each in against]
            for name, against in found.items()
        }
        document["ok"] = _is_ok(verdicts)
    return document


def _additions(claim: Claim, found: Found | None, reached: Verdict | None) -> dict[str, list[str]]:
    return {"additions": [*additions(claim, found or {})]} if reached == "amended" else {}


def _print(
    every: Mapping[str, Claim],
    figures: Mapping[str, Any],
    found: Found,
    verdicts: Mapping[str, Verdict],
    each_of: Mapping[str, Mapping[str, Verdict]],
) -> None:
    for name, claim in every.items():
        reached = verdicts.get(name)
        shown = f" [{_STYLES[reached]}]{_SHOWN.get(reached, reached)}[/]" if reached else ""
        out.print(f"[bold]{name}[/]{shown}")
        out.print(f"  {claim.text}", markup=False)
        if reached == "amended":
            for text in additions(claim, found):
                out.print(f"  {text}", markup=False)
        if claim.missing is not None:
            out.print(f"  not built yet: {claim.missing}", markup=False, style="yellow")
            continue
        if each_of:
            reached_by = {schema: verdicts[name] for schema, verdicts in each_of.items()}
            words = ", ".join(f"{s} {_SHOWN.get(each, each)}" for s, each in reached_by.items())
            out.print(f"  schemas {words}", markup=False)
        out.print(f"  rules   {', '.join(claim.rules)}")
        out.print(f"  checks  {', '.join(claim.checks)}")
        for place, test in zip(chain(["tests"], repeat("")), claim.tests, strict=False):
            out.print(f"  {place:7} {test}", markup=False)
        words = ", ".join(_words(_figures(claim.counters, figures) or {})) or "none"
        out.print(f"  counts  {seen(words)}")


def _words(figures: Mapping[str, Any]) -> Iterator[str]:
    """Write counts as words: each sum, and its parts."""
    for name, figure in figures.items():
        if not isinstance(figure, dict):
            yield f"{name} {figure:,}"
        elif name == "bytes":
            yield f"bytes {figure['in']:,} in and {figure['out']:,} out"
        else:
            times = {key: _sum(value) for key, value in figure.items()}
            parts = ", ".join(f"{key} {number:,}" for key, number in times.items())
            yield f"{name} {sum(times.values()):,}" + (f" ({parts})" if parts else "")


def _sum(value: Any) -> int:
    return sum(value.values()) if isinstance(value, dict) else int(value)


def _print_faults(found: Found) -> None:
    for name, against in found.items():
        if against is None:
            err.print(f"{name}: not run, since another check found a fault", style="yellow")
        for each in against or ():
            style = None if each.is_note or each.amends else "red"
            err.print(f"{name}: {each.message}", markup=False, style=style)
