"""``python -m benchmarks leaks``: what gets through Collector, and through others.

Four parts: attacks on contenders, the bits of a record as a hostile client spells, channels beside
the record, and attacks on whole Collectors.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import charts, conditions
from benchmarks.data import SEED
from benchmarks.figures import Figures, say
from benchmarks.leaks import channels, environments, measure
from benchmarks.leaks.classes import ENCODINGS, PAYLOADS, SLOTS
from benchmarks.leaks.environments import CONTENDERS
from benchmarks.leaks.measure import Result
from benchmarks.leaks.sidecar import Sidecar, rows, running
from benchmarks.leaks.spelling import Delivered, Record, Send, event, spelled
from benchmarks.leaks.sweep import Sweep, sweep
from collector import Schema, load_schema
from collector.schema import resources
from collector.schema.model import record_bits

_PARTS = ("contenders", "bits", "channels", "sweep")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--chart": {"type": Path, "metavar": "PATH", "help": "draw the leak rates as an SVG file"},
    "--build": {"action": "store_true", "help": "install the contenders, each by itself, first"},
    "--attacks": {"type": int, "metavar": "N", "help": "attacks on whole Collectors"},
    "--only": {"action": "append", "choices": _PARTS, "help": "only this part; may be repeated"},
}
_LINES, _LONGEST = 1_000, 1_200
_OURS = CONTENDERS[0].title


def leaks(options: Namespace, figures: Figures) -> None:
    """Measure what gets through, and judge Collector; nothing about others can fail."""
    effort = measure.QUICK if options.quick else measure.FULL
    parts = options.only or _PARTS
    figures.environment = conditions.environment() | {"seed": str(SEED)}
    del figures.environment["vector-vrl"]  # contenders have environments of their own
    if options.build:
        environments.build()
    if "contenders" in parts:
        results = measure.contenders(figures, effort, options.fluent_bit)
        _show_contenders(results, figures)
        if options.chart:
            options.chart.write_text(_chart(results), encoding="utf-8")
    if "bits" in parts:
        with ThreadPoolExecutor(2) as pool:
            spell = partial(_spelled, messages=effort.messages)
            _show_bits(list(pool.map(spell, resources.names())), figures)
    if "channels" in parts:
        _show_channels(list(channels.measure(SEED, quick=options.quick)), figures)
        found = "; ".join(channels.unnamed(Random(SEED)))
        figures.check(not found, f"places: {found or 'every place has a channel'}")
    if "sweep" in parts:
        _show_sweep(sweep(options.attacks or effort.sweep, SEED), figures)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.9995 else f"{100 * share:.0f}"


def _show_contenders(results: Sequence[Result], figures: Figures) -> None:
    for one in results:
        text = one.configuration.strip()
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\n… ({len(text):,} characters; `--json` has all)"
        print(f"{one.name} ({one.version}):\n\n{text}", end="\n\n")
    none = ", ".join(one.name for one in results if not one.leaks)
    figures.environment["no leak"] = none or "nobody"
    figures.values["results"] = [one._asdict() for one in results]
    number = results[0].attacks if results else 0
    figures.table(
        f"{number:,} attacks: % that come through, and what is left of use",
        (
            *("contender", "as in the wild", "as an attacker picks", "personal data in free text"),
            *("utility %", "bits per event", "µs per event", "peak MB"),
        ),
        (
            (
                one.name,
                *map(_percent, (one.wild, one.attacker, one.personal, one.utility)),
                f"{one.bits:,.0f}" + ("+" if one.is_free else ""),
                *(f"{one.us:,.0f}", f"{one.peak_mb:,.0f}"),
            )
            for one in results
        ),
    )
    for axis, classes in zip(measure.AXES, (SLOTS, ENCODINGS, PAYLOADS), strict=True):
        names = tuple(each.name for each in classes)
        figures.table(
            f"% of attacks that come through, by {axis}",
            ("contender", *names),
            (
                (one.name, *(_percent(of[n]) if n in of else "–" for n in names))
                for one in results
                for of in [one.by_class[axis]]
            ),
        )
    for one in results:
        if one.title == _OURS:
            figures.check(
                not one.leaks, f"{one.name}: {one.leaks} leaks in {one.attacks:,} attacks"
            )
            figures.check(one.utility == 1, f"{one.name}: {_percent(one.utility)} % of use")


def _chart(results: Sequence[Result]) -> str:
    bars = {one.name: [(100 * one.wild, "a"), (100 * one.attacker, "c")] for one in results}
    names = {"a": "weighted as in the wild", "c": "as an attacker picks"}
    return charts.bars(("Attacks that come through, in %", ""), "%", bars, names)


def _show_bits(delivered: Sequence[Delivered], figures: Figures) -> None:
    figures.table(
        "bits of a record over `/v1/events`, spelled by a hostile client",
        ("schema", "stated bits", "delivered bits", "share", "records", "values beyond"),
        (
            (
                *(one.schema, f"{one.stated:.2f}", f"{one.delivered:.2f}", f"{one.share:.4f}"),
                *(f"{one.records:,}", str(one.beyond)),
            )
            for one in delivered
        ),
    )
    least, most = (figures.limits["leaks"][f"share_at_{each}"] for each in ("least", "most"))
    for each in delivered:
        text = f"{each.schema}: {each.share:.4f} of the stated bits, {least:g} to {most:g}"
        figures.check(least <= round(each.share, 9) <= most, text)
        text = f"{each.schema}: {each.beyond} values beyond those counted"
        figures.check(not each.beyond, text)


def _show_channels(measured: Sequence[channels.Measured], figures: Figures) -> None:
    figures.table(
        "channels beside the record, measured on a running sidecar",
        ("channel", "what spells", "per", "bits offered", "bits read", "bounded by"),
        (
            (
                *(of.name, of.sentence, of.per, f"{offered:.1f}"),
                "–" if delivered is None else f"{delivered:.1f}",
                of.ceiling,
            )
            for of, offered, delivered in measured
        ),
    )
    least, most = (figures.limits["leaks"][f"share_at_{each}"] for each in ("least", "most"))
    for of, offered, delivered in measured:
        if delivered is None:
            figures.check(None, f"channel {of.name}: not measured")
            continue
        bound = 0.0 if of.ceiling.startswith("none") else offered
        text = f"channel {of.name}: {delivered:.1f} bits, {least:g} to {most:g} of {bound:.1f}"
        figures.check(least * bound <= delivered <= bound + 1e-9, text)


def _show_sweep(found: Sweep, figures: Figures) -> None:
    total, leaked = sum(found.attacks.values()), sum(found.leaks.values())
    rows_ = [(f"sent: {way}", f"{number:,}", "") for way, number in found.attacks.items()]
    rows_ += [(f"records: {place}", f"{number:,}", "") for place, number in found.records.items()]
    rows_.append(("attacks, leaks", f"{total:,}", f"{leaked:,}"))
    figures.table("attacks on whole Collectors", ("what", "number", "leaks"), rows_)
    places = ", ".join(f"{place} {number}" for place, number in found.leaks.items()) or "0 leaks"
    figures.check(not leaked, f"{total:,} attacks on whole Collectors: {places}")


def _spelled(name: str, messages: int) -> Delivered:
    say(f"leaks: spelling with {name}")
    schema, random = load_schema(name), Random(f"{SEED} {name}")
    with TemporaryDirectory() as folder, running(Path(folder), schema.name) as sidecar:
        return spelled(schema, record_bits(schema), _sender(sidecar, schema), messages, random)


def _sender(sidecar: Sidecar, schema: Schema) -> Send:
    """Return the function that sends records as lines and reads from the store what arrived."""
    known: Counter[tuple[str | None, ...]] = Counter()
    names = list(schema.fields)
    columns = ", ".join(f'"{name}"' for name in names)

    def send(records: Sequence[Record]) -> list[Record]:
        lines = event(schema, records)
        for at in range(0, len(lines), _LINES):
            # Two lines at least: of a lone event, the sender's address may stand in.
            text = "\n".join([*lines[at : at + _LINES], "{}"])
            sidecar.post("/v1/events", "application/x-ndjson", text.encode())
        sidecar.delivered()
        stored = Counter(rows(sidecar.store, f'SELECT {columns} FROM "{schema.name}"'))
        new = stored - known
        known.update(new)
        found = (dict(zip(names, row, strict=True)) for row in new.elements())
        return [{name: value for name, value in row.items() if value is not None} for row in found]

    return send
