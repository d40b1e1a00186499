"""Run the corpus through each contender, and judge the output; show all five parts."""

from __future__ import annotations

import json
import random
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv6Address
from itertools import islice, product
from math import log2
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import charts, conditions
from benchmarks.data import SEED
from benchmarks.figures import Figures, say
from benchmarks.leaks import channels
from benchmarks.leaks.attacks import AXES, WORDS, Attack, Cell, attack, attacks, clean
from benchmarks.leaks.contenders import CONTENDERS, VARIANTS, Contender, Outcome, build, run
from benchmarks.leaks.events import SHAPES, Listed, spec
from benchmarks.leaks.search import search
from benchmarks.leaks.sidecar import rows, running
from benchmarks.leaks.spelling import Delivered, Record, Values, event, spelled, values_of
from benchmarks.leaks.sweep import sweep
from collector import load_schema
from collector.schema import resources
from collector.schema.kinds.enum import EnumField
from collector.schema.model import record_bits


class Effort(NamedTuple):
    """How much is measured: the step between tried classes, clean events of a shape, sentences with
    personal data, messages of a schema, attacks of the sweep."""

    step: int
    clean: int
    personal: int
    messages: int
    sweep: int


QUICK = Effort(step=7, clean=5, personal=40, messages=500, sweep=2_000)
FULL = Effort(step=1, clean=30, personal=100, messages=5_000, sweep=20_000)

_SAID = Cell("meeting", "unlisted", "plain", "said")
_WIDE = 4_096
"""The characters of a text that a program may pass unchanged."""
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SPELLED = 40
_SCHEMAS = ("conferencing", "conferencing-strict")
_LINES, _LONGEST = 1_000, 1_200
_AT_ONCE = 2
"""How many contenders, or sidecars, run at once."""


class Result(NamedTuple):
    """One contender in one variant. Rates are shares of 1. ``wild`` and ``attacker`` are the
    weighted shares of attacks that got through, ``by_class`` is unweighted, and ``personal`` is the
    share of personal data in free text. ``utility`` is the share of promised listed values that
    arrive right. ``bits`` is the most that an event carries, and ``is_free`` says whether any text
    gets through."""

    title: str
    variant: str
    attacks: int
    leaks: int
    wild: float
    attacker: float
    by_class: dict[str, dict[str, float]]
    personal: float
    utility: float
    bits: float
    is_free: bool
    us: float
    peak_mb: float
    version: str
    configuration: str

    @property
    def name(self) -> str:
        """The title and the variant."""
        return f"{self.title}, {self.variant}"


class Spelled(NamedTuple):
    """A field that spells: its place, what was written (nothing if absent), the value in the
    record, and the bits of the spelling and of the value."""

    place: str
    written: str
    canonical: str
    bits: float
    canonical_bits: float


class _Corpus(NamedTuple):
    """All events that a contender gets, and their purposes."""

    attacks: list[Attack]
    personal: list[Attack]
    clean: list[tuple[str, str, list[Listed]]]
    wide: list[tuple[str, str, float]]
    valid: dict[str, list[tuple[str, list[Spelled]]]]

    def events(self) -> list[tuple[str, str]]:
        """Shape and text of each event, in the order of the outputs."""
        found = [(e.cell.shape, text) for e in (*self.attacks, *self.personal) for text in e.texts]
        found += [(shape, text) for shape, text, _ in self.clean]
        meetings = [text for text, _, _ in self.wide]
        meetings += [text for each in self.valid.values() for text, _ in each]
        return found + [("meeting", text) for text in meetings]


def _corpus(effort: Effort) -> _Corpus:
    rng = random.Random(SEED)
    return _Corpus(
        list(attacks(1, SEED, effort.step)),
        [attack(_SAID, rng) for _ in range(effort.personal)],
        [
            (shape.name, text, listed)
            for shape in SHAPES.values()
            for text, listed in islice(clean(shape, SEED), effort.clean)
        ],
        list(_wide(rng)),
        {name: [_valid(name, rng) for _ in range(_SPELLED)] for name in _SCHEMAS},
    )


def _wide(rng: random.Random) -> Iterator[tuple[str, str, float]]:
    """Yield events with one long random text each (letters or words, in various places), the text,
    and its bits."""
    letters = "".join(rng.choices(_ALPHABET, k=_WIDE))
    words = rng.choices(WORDS, k=_WIDE // 8)
    for text, bits in (
        (letters, _WIDE * log2(len(_ALPHABET))),
        (" ".join(words), len(words) * log2(len(WORDS))),
    ):
        for place in (
            {"os": {"name": text}},
            {"os": {"version": [text]}},
            {"os": {"type": "linux"}, "note": text},
            {"os": {"type": "linux", text: 1}},
        ):
            yield json.dumps(place), text, bits


def _valid(name: str, rng: random.Random) -> tuple[str, list[Spelled]]:
    """Return an event that spells with a schema's values, and with the ways to write them."""
    found: dict[str, Any] = {}
    schema, chosen = load_schema(name), []
    for path, values in values_of(schema).items():
        field = schema.fields[path]
        aliases = dict(field.aliases) if isinstance(field, EnumField) else {}
        one = _choice(rng, _place(path), values, aliases)
        chosen.append(one)
        if one.written:
            inner = found
            *way, last = path.split(".")
            for key in way:
                inner = inner.setdefault(key, {})
            inner[last] = one.written
    return json.dumps(found), chosen


def _choice(rng: random.Random, place: str, values: Values, aliases: dict[str, str]) -> Spelled:
    """Choose a value, an alias or absence; letters of an IPv6 address may be capitals."""
    bits, canonical_bits = log2(values.size + len(aliases) + 1), log2(values.size + 1)
    number = rng.randrange(values.size + len(aliases) + 1)
    if number == values.size + len(aliases):
        return Spelled(place, "", "", canonical_bits, canonical_bits)
    if number >= values.size:
        written = list(aliases)[number - values.size]
        return Spelled(place, written, aliases[written], bits, canonical_bits)
    text = written = values.nth(number)
    with suppress(ValueError):
        exploded = IPv6Address(text).exploded
        written = "".join(rng.choice((c, c.upper())) for c in exploded)
        bits += sum(map(str.isalpha, exploded))
    return Spelled(place, written, text, bits, canonical_bits)


# -- what comes out --------------------------------------------------------------------------------


def contenders(figures: Figures, effort: Effort, fluent_bit: str | None) -> list[Result]:
    """Measure every contender in both variants."""
    corpus, fields = _corpus(effort), spec()
    events, results = corpus.events(), []

    def outcome_of(job: tuple[Contender, Any]) -> Outcome | str:
        contender, variant = job
        if figures.quick and contender.packages and not contender.has_both:
            return "left out with --quick"
        say(f"leaks: {contender.title}, {variant}, {len(events):,} events")
        return run(contender, variant, fields, events, fluent_bit)

    jobs = [*product(CONTENDERS, VARIANTS)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for (contender, variant), outcome in zip(jobs, pool.map(outcome_of, jobs), strict=True):
            if isinstance(outcome, str):
                figures.skipped[contender.title] = outcome
            else:
                results.append(_judged(contender, variant, corpus, outcome))
    return results


def _judged(contender: Contender, variant: str, corpus: _Corpus, outcome: Outcome) -> Result:
    outputs = iter(outcome.outputs)

    def take(number: int) -> list[str]:
        return [*islice(outputs, number)]

    leaks = [search(each.payload, take(len(each.texts))).leaks for each in corpus.attacks]
    personal = [search(each.payload, take(len(each.texts))) for each in corpus.personal]
    removed = contender.removes.get(variant, frozenset())
    useful = []
    for _, _, listed in corpus.clean:
        texts = {text for _, text in _values(next(outputs))}
        kept = (one for one in listed if one.field not in removed)
        useful += [one.written in texts or one.canonical in texts for one in kept]
    wide = max(
        bits * any(text == found for _, found in _values(next(outputs)))
        for _, text, bits in corpus.wide
    )
    valid = 0.0
    for each in corpus.valid.values():
        found = [set(_values(output)) for output in take(len(each))]
        columns = zip(*(chosen for _, chosen in each), strict=True)
        valid = max(valid, sum(_field_bits(column, found) for column in columns))
    cells = [each.cell for each in corpus.attacks]
    by_class: dict[str, dict[str, list[bool]]] = {axis: defaultdict(list) for axis in AXES}
    for cell, leak in zip(cells, leaks, strict=True):
        for axis, by_name in by_class.items():
            by_name[getattr(cell, axis)].append(leak)
    return Result(
        contender.title,
        variant,
        len(leaks),
        sum(leaks),
        _weighted(leaks, [cell.weight("wild") for cell in cells]),
        _weighted(leaks, [cell.weight("attacker") for cell in cells]),
        {axis: {n: fmean(of) for n, of in found_.items()} for axis, found_ in by_class.items()},
        fmean(each.personal for each in personal),
        fmean(useful),
        max(wide, valid),
        wide > 0,
        outcome.us,
        outcome.peak_mb,
        outcome.version,
        outcome.configuration,
    )


def _weighted(leaks: Sequence[bool], weights: Sequence[float]) -> float:
    return sum(w for leak, w in zip(leaks, weights, strict=True) if leak) / sum(weights)


def _values(output: str) -> Iterator[tuple[str, str]]:
    """Yield each text of an output with the last two parts of its path (``model.name``), and each
    member's name without a place."""
    queue: list[tuple[str, Any]] = []
    for line in output.splitlines():
        with suppress(ValueError):
            queue.append(("", json.loads(line)))
    while queue:
        path, value = queue.pop()
        if isinstance(value, dict):
            yield from (("", key) for key in value)
            queue += [(f"{path}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            queue += [(path, inner) for inner in value]
        elif isinstance(value, str):
            yield _place(path), value


def _place(path: str) -> str:
    return ".".join(path.split(".")[-2:])


def _field_bits(column: Sequence[Spelled], found: Sequence[set[tuple[str, str]]]) -> float:
    """Return the bits that a field carries on average. The way a value is written counts if it is
    unchanged, and absence counts if the field arrives at all."""
    both = [
        (one, {text for place, text in values if place == one.place})
        for one, values in zip(column, found, strict=True)
        if one.written
    ]
    is_left = any(one.canonical != one.written in texts for one, texts in both)
    arriving = [one for one, texts in both if {one.written, one.canonical} & texts]
    absent = [one for one in column if not one.written] if arriving else []
    bits = [one.bits if is_left else one.canonical_bits for one in (*arriving, *absent)]
    return sum(bits) / len(column)


def spelled_with(name: str, messages: int) -> Delivered:
    """Spell with a shipped schema to a sidecar, and read from its store what arrived."""
    say(f"leaks: spelling with {name}")
    schema, known = load_schema(name), Counter[tuple[str | None, ...]]()
    names = list(schema.fields)
    columns = ", ".join(f'"{each}"' for each in names)
    with TemporaryDirectory() as folder, running(Path(folder), schema.name) as sidecar:

        def send(records: Sequence[Record]) -> list[Record]:
            lines = event(schema, records)
            for at in range(0, len(lines), _LINES):
                # At least two lines: for a single event, the sender's address may be used.
                text = "\n".join([*lines[at : at + _LINES], "{}"])
                sidecar.post("/v1/events", "application/x-ndjson", text.encode())
            sidecar.server.drained()
            new = Counter(rows(sidecar.store, f'SELECT {columns} FROM "{schema.name}"')) - known
            known.update(new)
            found = (zip(names, row, strict=True) for row in new.elements())
            return [{each: text for each, text in row if text is not None} for row in found]

        return spelled(schema, record_bits(schema), send, messages, random.Random(f"{SEED} {name}"))


# -- what is shown ---------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.9995 else f"{100 * share:.0f}"


def _show_contenders(options: Namespace, effort: Effort, figures: Figures) -> None:
    results = contenders(figures, effort, options.fluent_bit)
    for one in results:
        text = one.configuration.strip()
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\n… ({len(text):,} characters; `--json` has all)"
        print(f"{one.name} ({one.version}):\n\n{text}", end="\n\n")
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
    for axis, classes in AXES.items():
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
        if one.title == CONTENDERS[0].title:
            text = f"{one.name}: {one.leaks} leaks in {one.attacks:,} attacks"
            figures.check(not one.leaks, text)
            figures.check(one.utility == 1, f"{one.name}: {_percent(one.utility)} % of use")
    if options.chart:
        bars = {one.name: [(100 * one.wild, "a"), (100 * one.attacker, "c")] for one in results}
        legend = {"a": "weighted as in the wild", "c": "as an attacker picks"}
        text = charts.bars("Attacks that come through", bars, legend)
        options.chart.write_text(text, encoding="utf-8")


def _show_bits(_options: Namespace, effort: Effort, figures: Figures) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = resources.names()
        found = [*pool.map(spelled_with, names, [effort.messages] * len(names))]
    figures.table(
        "bits of a record over `/v1/events`, spelled by a hostile client",
        ("schema", "stated bits", "delivered bits", "share", "records", "values beyond"),
        (
            (
                *(one.schema, f"{one.stated:.2f}", f"{one.delivered:.2f}", f"{one.share:.4f}"),
                *(f"{one.records:,}", str(one.beyond)),
            )
            for one in found
        ),
    )
    least, most = (figures.limits["leaks"][f"share_at_{each}"] for each in ("least", "most"))
    for each in found:
        text = f"{each.schema}: {each.share:.4f} of the stated bits, {least:g} to {most:g}"
        figures.check(least <= round(each.share, 9) <= most, text)
        text = f"{each.schema}: {each.beyond} values beyond those counted"
        figures.check(not each.beyond, text)


def _show_channels(options: Namespace, _effort: Effort, figures: Figures) -> None:
    measured = list(channels.measure(SEED, quick=options.quick))
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
    found = "; ".join(channels.unnamed(random.Random(SEED)))
    figures.check(not found, f"places: {found or 'every place has a channel'}")


def _show_sweep(options: Namespace, effort: Effort, figures: Figures) -> None:
    found = sweep(options.attacks or effort.sweep, SEED)
    total, leaked = found.attacks.total(), found.leaks.total()
    shown = [(f"sent: {way}", f"{number:,}", "") for way, number in found.attacks.items()]
    shown += [(f"records: {place}", f"{number:,}", "") for place, number in found.records.items()]
    shown.append(("attacks, leaks", f"{total:,}", f"{leaked:,}"))
    figures.table("attacks on whole Collectors", ("what", "number", "leaks"), shown)
    places = ", ".join(f"{place} {number}" for place, number in found.leaks.items()) or "0 leaks"
    figures.check(not leaked, f"{total:,} attacks on whole Collectors: {places}")


_PARTS = {
    "contenders": _show_contenders,
    "bits": _show_bits,
    "channels": _show_channels,
    "sweep": _show_sweep,
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--chart": {"type": Path, "metavar": "PATH", "help": "draw the leak rates as an SVG file"},
    "--build": {"action": "store_true", "help": "install the contenders, each by itself, first"},
    "--attacks": {"type": int, "metavar": "N", "help": "attacks on whole Collectors"},
    "--only": {"action": "append", "choices": _PARTS, "help": "only this part; may be repeated"},
}


def leaks(options: Namespace, figures: Figures) -> None:
    """Measure what gets through, and judge Collector; the results of others cannot fail."""
    figures.environment = conditions.environment() | {"seed": str(SEED)}
    del figures.environment["vector-vrl"]  # contenders have their own environments
    if options.build:
        build()
    for part in options.only or _PARTS:
        _PARTS[part](options, QUICK if options.quick else FULL, figures)
