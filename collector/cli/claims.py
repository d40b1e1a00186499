"""``collector claims``: each public sentence, what carries it, and what shows that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.console import AsJson, err, out, print_json, seen
from collector.cli.holdings import ConfigFile, Data, settings
from collector.contracts import Tally
from collector.errors import DeliveryError
from collector.ledger import opened
from collector.proof.claims import Claim, Counter, load_claims
from collector.proof.verification import Found, Verdict, check, verdict
from collector.spool import FILE_NAME
from collector.testing import canaries, scan

__all__ = ["claims"]

_PLANTED = 12
_STYLES: dict[Verdict, str] = {
    "holds": "bold green",
    "broken": "bold red",
    "unproven": "bold yellow",
    "missing": "bold yellow",
}


def claims(
    config: ConfigFile = None,
    data: Data = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Run the checks, and exit 1 unless every claim holds."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show each public claim with the rules, checks and tests that carry it, and with live counts.

    With `--verify` the checks are run against the configuration: events full of canaries go through
    the real pipeline in a temporary directory, the flow matrix is computed, and store and ledger of
    the data directory are looked at, which is noted in the ledger. A sidecar may be running.
    docs/claims.md has the details.
    """
    chosen = settings(config, data)
    every, folder = load_claims(), chosen.data or Path()
    found = check(chosen, canaries(_PLANTED), scan) if verify else None
    verdicts = {name: verdict(claim, found) for name, claim in every.items()} if found else {}
    tally = None
    try:
        tally = _tally(folder / FILE_NAME)
    except DeliveryError as error:
        if found is None:
            raise
        err.print(str(error), markup=False, style="red")
    if as_json:
        print_json(_as_dict(every, tally, found, verdicts))
    else:
        _print(every, tally, verdicts)
        _print_faults(found or {})
    if verify and not folder.is_dir():
        err.print("there is no data directory: only the configuration was looked at")
    raise typer.Exit(1 if any(each != "holds" for each in verdicts.values()) else 0)


def _tally(spool: Path) -> Tally | None:
    """What the ledger has counted; ``None`` where there is none. Raises ``DeliveryError`` E507."""
    if not spool.is_file():
        return None
    with opened(spool) as ledger:
        return ledger.tally()


def _figures(counters: tuple[Counter, ...], tally: Tally) -> dict[str, Any]:
    """The counts of those names, zero as well."""
    plain = tally.as_dict()
    plain["bytes"] = {"in": tally.bytes_in, "out": tally.bytes_out}
    return {name: plain.get(name, {}) for name in counters}


def _as_dict(
    every: Mapping[str, Claim],
    tally: Tally | None,
    found: Found | None,
    verdicts: Mapping[str, Verdict],
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "claims": [
            {
                "id": name,
                **claim.model_dump(mode="json", exclude_none=True, exclude={"counters"}),
                "figures": _figures(claim.counters, tally) if tally else None,
                **({"verdict": verdicts[name]} if verdicts else {}),
            }
            for name, claim in every.items()
        ]
    }
    if found is not None:
        told["checks"] = {
            name: None if against is None else [each.message for each in against]
            for name, against in found.items()
        }
        told["ok"] = all(each == "holds" for each in verdicts.values())
    return told


def _print(
    every: Mapping[str, Claim], tally: Tally | None, verdicts: Mapping[str, Verdict]
) -> None:
    for name, claim in every.items():
        shown = f" [{_STYLES[verdicts[name]]}]{verdicts[name]}[/]" if verdicts else ""
        out.print(f"[bold]{name}[/]{shown}")
        out.print(f"  {claim.text}", markup=False)
        if claim.missing is not None:
            out.print(f"  not built yet: {claim.missing}", markup=False, style="yellow")
            continue
        out.print(f"  rules   {', '.join(claim.rules)}")
        out.print(f"  checks  {', '.join(claim.checks)}")
        for place, test in zip(chain(["tests"], repeat("")), claim.tests, strict=False):
            out.print(f"  {place:7} {test}", markup=False)
        words = ", ".join(_words(_figures(claim.counters, tally))) if tally else "none"
        out.print(f"  counts  {seen(words)}")


def _words(figures: Mapping[str, Any]) -> Iterator[str]:
    """Counts as words: a sum, and what it is made of."""
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
            err.print(f"{name}: {each.message}", markup=False, style="red")
