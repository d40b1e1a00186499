"""``collector claims``: run the checks, and say whether each promise holds, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.text import Text

from collector.claims.document import (
    COUNTERS,
    RECORDING_CHECKS,
    SERVING_CHECKS,
    Claim,
    Counter,
    load_all_claims,
)
from collector.claims.findings import NO_RECORDER, ClaimFinding, Found, Verdict, verdict
from collector.claims.promises import (
    Promise,
    by_importance,
    deciding,
    explained,
    is_kept,
    promises,
    summary,
)
from collector.claims.verdicts import fingerprint, record
from collector.claims.verification import check, review_commands
from collector.cli.console import err, out, print_json, printable, seen
from collector.cli.data_dir import settings
from collector.cli.options import AsJson, ConfigFile, Data
from collector.config import Config
from collector.documents import nearest
from collector.errors import CollectorError, DeliveryError
from collector.extras import install
from collector.ledger import opened
from collector.routing import all_flows
from collector.routing.schemas import configured, reviewed
from collector.schema.review import read_copy
from collector.spool import FILE_NAME
from collector.testing import canaries, scan

_PLANTED = 12
_SHOWN: Mapping[Verdict, tuple[str, str, str, str]] = {
    "holds": ("\u2713", "v", "Holds.", "green"),
    "amended": ("+", "+", "Holds with additions.", "green"),
    "unproven": ("?", "?", "Unproven.", "bold yellow"),
    "broken": ("\u2717", "x", "Broken.", "bold red"),
    "missing": ("\u2013", "-", "Not available.", "yellow"),
}
"""The sign of each verdict, the same in ASCII, its words and its style."""
_INDENT = 2
_NO_DATA = (
    "There is no data directory, so only the configuration was checked. If a sidecar has run, name"
    " its data directory with `--data`."
)


def claims(  # noqa: PLR0917 - typer reads the options off the parameters
    config: ConfigFile = None,
    data: Data = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Run the checks, which is what happens anyway.", hidden=True),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Check only this claim; repeatable."),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Also show the rules, checks, tests and counts of each claim."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check each public promise: does it hold, why, and what should you do? Exit 1 if one is broken
    or unproven.

    The command sends events full of canaries through the real pipeline in a temporary directory,
    computes which field reaches which sink, lets a worker try what the kernel must forbid, and
    reads the store and ledger of the data directory, which the ledger notes. With a recorder, it
    also makes test recordings and looks at the existing ones. A sidecar and a recorder may be
    running. The verdicts are saved in the data directory, and the sidecar's page shows them.
    docs/claims.md has the details."""
    chosen = settings(config, data)
    every, folder = _chosen(load_all_claims(chosen.claims), only or []), chosen.data or Path()
    found, made = checked(chosen, every, config)
    names = _names(chosen)
    each_of = {schema: _verdicts(every, found, schema) for schema in names}
    figures: dict[str, Any] = {}
    if details or as_json:
        try:
            figures = _all_figures(chosen, folder / FILE_NAME)
        except DeliveryError as error:
            err.print(str(error), markup=False, style="red")
    if as_json:
        document = _as_dict(every, figures, found, made, each_of)
        print_json(document | {"to_review": _to_review(chosen, config)})
    else:
        _print(every, found, made)
        if not folder.is_dir():
            _line(None, _NO_DATA)
        if details:
            _print_details(every, figures, found, each_of)
    raise typer.Exit(0 if is_kept(made) else 1)


def checked(
    config: Config, every: Mapping[str, Claim], file: Path | None
) -> tuple[Found, tuple[Promise, ...]]:
    """Run all checks of the configuration in ``file``, and record the verdicts."""
    found: Found = {
        **check(config, canaries(_PLANTED), scan, file=file),
        **serving_findings(config),
        **recording_findings(config),
    }
    made = promises(every, found)
    _record(config, made)
    return found, made


def _record(config: Config, made: Sequence[Promise]) -> None:
    """Record verdicts in the data directory, if there is one. Print an error if that fails."""
    if config.data is None or not config.data.is_dir():
        return
    try:
        record(config.data, made, _fingerprint(config), datetime.now(UTC))
    except DeliveryError as error:
        err.print(str(error), markup=False, style="red")


def _fingerprint(config: Config) -> str:
    """Return the fingerprint of a configuration; an empty text if the configuration breaks a
    rule."""
    with suppress(CollectorError):
        schemas = configured(config)
        copies = [read_copy(config.approved_copy(each)) for each in config.references]
        return fingerprint(config, all_flows(config, schemas), copies)
    return ""


def _chosen(every: Mapping[str, Claim], only: Sequence[str]) -> Mapping[str, Claim]:
    """Return the named claims, or all."""
    unknown = [name for name in only if name not in every]
    if unknown:
        hint = nearest(unknown[0], list(every)) or f"; there are {', '.join(every)}"
        raise typer.BadParameter(f"no claim has this name{hint}", param_hint="--only")
    return {name: every[name] for name in dict.fromkeys(only)} if only else every


def _verdicts(every: Mapping[str, Claim], found: Found, schema: str) -> dict[str, Verdict]:
    """Return the verdict on each claim for one of several schemas."""
    return {name: verdict(each, found, schema) for name, each in every.items()}


def _names(config: Config) -> list[str]:
    """Return the names of the schemas, if there are several and all of them load."""
    if len(config.references) > 1:
        with suppress(CollectorError):
            return [schema.name for schema in configured(config)]
    return []


def _to_review(config: Config, file: Path | None) -> list[str]:
    """Return the commands with which a person reviews the unapproved fields."""
    with suppress(CollectorError):
        schemas = configured(config)
        commands, found = review_commands(config, schemas, file), reviewed(config, schemas)
        return [commands[name] for name, each in found.items() if each.unapproved]
    return []


def serving_findings(config: Config) -> Found:
    """Run the checks of processes that receive."""
    try:
        from collector.server.sandbox_check import try_worker  # noqa: PLC0415 - of another extra
    except ImportError:
        message = "No process that receives could be tried: the extra `sidecar` is not installed."
        advice = f"Run `{install('sidecar')}`, then run this again."
        finding = ClaimFinding(message, is_open=True, advice=advice)
        return dict.fromkeys(SERVING_CHECKS, (finding,))
    return try_worker(config)


def _recorder(config: Config) -> Path | None:
    """Return the directory of recordings, if the recorder is on or the directory exists."""
    directory = config.recorder.data or Path()
    return directory if config.recorder.enabled or directory.is_dir() else None


def recording_findings(config: Config) -> Found:
    """Run the checks of recordings. Without a recorder, each says that nothing is kept."""
    if (directory := _recorder(config)) is None:
        return dict.fromkeys(RECORDING_CHECKS, (ClaimFinding(NO_RECORDER, is_note=True),))
    try:
        from collector.recording.claims import Place, look  # noqa: PLC0415 - of another extra
        from collector.recording.dry_run import run  # noqa: PLC0415
        from collector.recording.settings import bucket_options  # noqa: PLC0415
    except ImportError:
        message = "Recordings could not be checked: the extra `recording` is not installed."
        advice = f"Run `{install('recording')}`, then run this again."
        finding = ClaimFinding(message, is_open=True, advice=advice)
        return dict.fromkeys(RECORDING_CHECKS, (finding,))
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
    """Return the counts of these names, zeros included; ``None`` if no ledger has any of them."""
    return {name: figures[name] for name in counters if name in figures} or None


def _as_dict(
    every: Mapping[str, Claim],
    figures: Mapping[str, Any],
    found: Found,
    made: Sequence[Promise],
    each_of: Mapping[str, Mapping[str, Verdict]],
) -> dict[str, Any]:
    return {
        "claims": [
            {
                "id": promise.id,
                **claim.model_dump(mode="json", exclude_none=True, exclude={"counters"}),
                "figures": _figures(claim.counters, figures),
                "verdict": promise.verdict,
                "reason": promise.reason,
                "advice": promise.advice,
                **({"additions": [*promise.additions]} if promise.verdict == "amended" else {}),
                **(
                    {"verdicts": {name: each[promise.id] for name, each in each_of.items()}}
                    if each_of
                    else {}
                ),
            }
            for claim, promise in zip(every.values(), made, strict=True)
        ],
        "checks": {
            name: None if against is None else [each.message for each in against]
            for name, against in found.items()
        },
        "ok": is_kept(made),
    }


def _print(every: Mapping[str, Claim], found: Found, made: Sequence[Promise]) -> None:
    """Print each promise for a person: its sign and sentence, then why, then what to do."""
    is_ascii = not _can_write("".join(sign for sign, *_ in _SHOWN.values()))
    for each in by_importance(made):
        sign, plain, words, style = _SHOWN[each.verdict]
        _line((plain if is_ascii else sign, style), each.sentence, "bold")
        others = deciding(every[each.id], found, each.verdict)[1:]
        reason, _ = explained(every[each.id], found, each.verdict, are_listed=True)
        _line(("", ""), f"{words} {reason}", "", words=(len(words), style))
        told = {each.advice}
        for one in others:
            advice = "" if one.advice in told else f" {one.advice}"
            told.add(one.advice)
            _line(("", ""), f"- {one.message}{advice}")
        for also in each.additions:
            _line(("", ""), f"- {also}")
        if each.advice:
            _line(("", ""), f"What to do: {each.advice}")
        out.print()
    _line(None, f"{summary(made)}.", "bold")


def _can_write(text: str) -> bool:
    try:
        text.encode(out.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _line(
    sign: tuple[str, str] | None,
    text: str,
    style: str = "",
    words: tuple[int, str] = (0, ""),
) -> None:
    """Print a text beside its sign; on a terminal its further lines are indented as far."""
    content = Text(printable(text), style)
    content.stylize(words[1], 0, words[0])
    indent = 0 if sign is None else _INDENT
    lines = content.wrap(out, max(out.width - indent, 20)) if out.is_terminal else [content]
    first = Text(f"{'' if sign is None else sign[0]:{indent}}", "" if sign is None else sign[1])
    for line in lines:
        out.print(Text.assemble(first, line))
        first = Text(" " * indent)


def _print_details(
    every: Mapping[str, Claim],
    figures: Mapping[str, Any],
    found: Found,
    each_of: Mapping[str, Mapping[str, Verdict]],
) -> None:
    """Print what carries each claim, and all findings of each check."""
    for name, claim in every.items():
        out.print()
        out.print(f"[bold]{name}[/]")
        if each_of:
            verdicts = (f"{schema} {each[name]}" for schema, each in each_of.items())
            out.print(f"  schemas {', '.join(verdicts)}", markup=False)
        if claim.missing is not None:
            continue
        out.print(f"  rules   {', '.join(claim.rules)}")
        out.print(f"  checks  {', '.join(claim.checks)}")
        for place, test in zip(chain(["tests"], repeat("")), claim.tests, strict=False):
            out.print(f"  {place:7} {test}", markup=False)
        words = ", ".join(_words(_figures(claim.counters, figures) or {})) or "none"
        out.print(f"  counts  {seen(words)}")
    out.print()
    for check_name, against in found.items():
        if against is None:
            out.print(f"{check_name}: not run, because another check found a fault")
        for each in against or ():
            rule = f" [{each.rule}]" if each.rule else ""
            out.print(f"{check_name}: {each.message}{rule}", markup=False)


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
