"""Run the corpus through each contender, and judge what comes out."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv6Address
from itertools import chain, islice, product
from math import log2
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.data import SEED
from benchmarks.figures import Figures, say
from benchmarks.leaks.attacks import Attack, Cell, attack, attacks, clean
from benchmarks.leaks.environments import CONTENDERS, VARIANTS, Contender, Outcome, Variant, run
from benchmarks.leaks.events import SHAPES, Listed
from benchmarks.leaks.listed import spec
from benchmarks.leaks.payloads import WORDS
from benchmarks.leaks.search import search
from benchmarks.leaks.values import Values, values_of
from collector import load_schema
from collector.schema.kinds.enum import EnumField


class Effort(NamedTuple):
    """How much is measured: of how many classes one is tried in each round, rounds, clean events of
    a shape, sentences with personal data, messages of a schema, attacks of the sweep; and how many
    contenders run at once."""

    step: int
    rounds: int
    clean: int
    personal: int
    messages: int
    sweep: int
    at_once: int = 1


QUICK = Effort(step=7, rounds=1, clean=5, personal=40, messages=500, sweep=2_000, at_once=2)
FULL = Effort(step=1, rounds=1, clean=30, personal=200, messages=5_000, sweep=1_000_000)

_SAID = Cell("meeting", "unlisted", "plain", "said")
_WIDE = 4_096
"""Characters of a text that a program may let through as it is."""
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SPELLED = 40
_SCHEMAS = ("conferencing", "conferencing-strict")
AXES = ("slot", "encoding", "payload")
"""How attacks are classed."""

_Event = tuple[str, str]


class Result(NamedTuple):
    """One contender in one variant. Rates are shares of 1: of attacks that came through, weighted
    as in the wild and as by an attacker; by class unweighted; ``personal`` of personal data in free
    text. ``utility`` is the share of listed values, that it promises to leave, which arrive right;
    ``bits`` what an event brings over at most, ``is_free`` whether any text does."""

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
        """Both."""
        return f"{self.title}, {self.variant}"


class _Corpus(NamedTuple):
    """Everything that a contender gets, and what it is for."""

    attacks: list[Attack]
    personal: list[Attack]
    clean: list[tuple[str, str, list[Listed]]]
    wide: list[tuple[str, str, float]]
    valid: dict[str, list[tuple[str, list[_Spelled]]]]

    def events(self) -> list[_Event]:
        """The events in the order in which ``outputs`` come back."""
        both = (*self.attacks, *self.personal)
        found = [(each.cell.shape, text) for each in both for text in each.texts]
        found += [(shape, text) for shape, text, _ in self.clean]
        spelled = chain.from_iterable(self.valid.values())
        found += [("meeting", text) for text, _, _ in self.wide]
        return found + [("meeting", text) for text, _ in spelled]


class _Spelled(NamedTuple):
    """A field that spells: where it lies, what was written (nothing: its absence), what the record
    has for it, and the bits of either."""

    place: str
    written: str
    canonical: str
    bits: float
    canonical_bits: float


def contenders(figures: Figures, effort: Effort, fluent_bit: str | None) -> list[Result]:
    """Measure every contender in both variants."""
    corpus, fields = _corpus(effort), spec()
    events, results = corpus.events(), []

    def outcome_of(job: tuple[Contender, Variant]) -> Outcome | str:
        contender, variant = job
        if figures.quick and contender.packages and not contender.has_both:
            return "left out with --quick"
        say(f"leaks: {contender.title}, {variant}, {len(events):,} events")
        return run(contender, variant, fields, events, fluent_bit)

    jobs = [*product(CONTENDERS, VARIANTS)]
    with ThreadPoolExecutor(effort.at_once) as pool:
        for (contender, variant), outcome in zip(jobs, pool.map(outcome_of, jobs), strict=True):
            if isinstance(outcome, str):
                figures.skipped[contender.title] = outcome
            else:
                results.append(_judged(contender, variant, corpus, outcome))
    return results


def _corpus(effort: Effort) -> _Corpus:
    rng = random.Random(SEED)
    return _Corpus(
        list(attacks(effort.rounds, SEED, effort.step)),
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
    """Yield events with a long random text each, of letters or of words, in one place or another;
    the text, and its bits."""
    letters = "".join(rng.choices(_ALPHABET, k=_WIDE))
    words = rng.choices(WORDS, k=_WIDE // 8)
    for text, bits in (
        (letters, _WIDE * log2(len(_ALPHABET))),
        (" ".join(words), len(words) * log2(len(WORDS))),
    ):
        for event in (
            {"os": {"name": text}},
            {"os": {"version": [text]}},
            {"os": {"type": "linux"}, "note": text},
            {"os": {"type": "linux", text: 1}},
        ):
            yield json.dumps(event), text, bits


def _valid(name: str, rng: random.Random) -> tuple[str, list[_Spelled]]:
    """Return an event that spells with a schema's values, and with how these may be written."""
    schema = load_schema(name)
    event: dict[str, Any] = {}
    spelled = []
    for path, values in values_of(schema).items():
        field = schema.fields[path]
        aliases = field.aliases if isinstance(field, EnumField) else {}
        one = _choice(rng, _place(path), values, dict(aliases))
        spelled.append(one)
        if one.written:
            inner = event
            *way, last = path.split(".")
            for key in way:
                inner = inner.setdefault(key, {})
            inner[last] = one.written
    return json.dumps(event), spelled


def _ipv6(text: str) -> IPv6Address | None:
    with suppress(ValueError):
        return IPv6Address(text)
    return None


def _choice(rng: random.Random, place: str, values: Values, aliases: dict[str, str]) -> _Spelled:
    bits, canonical_bits = log2(values.size + len(aliases) + 1), log2(values.size + 1)
    number = rng.randrange(values.size + len(aliases) + 1)
    if number == values.size + len(aliases):
        return _Spelled(place, "", "", canonical_bits, canonical_bits)
    if number >= values.size:
        written = list(aliases)[number - values.size]
        return _Spelled(place, written, aliases[written], bits, canonical_bits)
    text = values.nth(number)
    address = _ipv6(text)
    if address is None:
        return _Spelled(place, text, text, bits, canonical_bits)
    exploded = "".join(rng.choice((c, c.upper())) for c in address.exploded)
    return _Spelled(place, exploded, text, bits + sum(map(str.isalpha, exploded)), canonical_bits)


def _judged(contender: Contender, variant: str, corpus: _Corpus, outcome: Outcome) -> Result:
    outputs = iter(outcome.outputs)
    leaks = [_leaks(each, outputs) for each in corpus.attacks]
    personal = [
        search(each.payload, [*islice(outputs, len(each.texts))]) for each in corpus.personal
    ]
    removed = contender.removes.get(variant, frozenset())
    useful = [
        arrives
        for _, _, listed in corpus.clean
        for arrives in _arriving([one for one in listed if one.field not in removed], next(outputs))
    ]
    wide = max(bits * (text in _texts(next(outputs))) for _, text, bits in corpus.wide)
    valid = max(
        _valid_bits([spelled for _, spelled in each], [*islice(outputs, len(each))])
        for each in corpus.valid.values()
    )
    cells = [each.cell for each in corpus.attacks]
    return Result(
        contender.title,
        variant,
        len(leaks),
        sum(leaks),
        _weighted(leaks, [cell.wild for cell in cells]),
        _weighted(leaks, [cell.attacker for cell in cells]),
        {axis: _by_class(leaks, [getattr(cell, axis) for cell in cells]) for axis in AXES},
        fmean(found.personal for found in personal),
        fmean(useful),
        max(wide, valid),
        wide > 0,
        outcome.us,
        outcome.peak_mb,
        outcome.version,
        outcome.configuration,
    )


def _leaks(attack_: Attack, outputs: Iterator[str]) -> bool:
    return search(attack_.payload, [*islice(outputs, len(attack_.texts))]).leaks


def _weighted(leaks: Sequence[bool], weights: Sequence[float]) -> float:
    return sum(w for leak, w in zip(leaks, weights, strict=True) if leak) / sum(weights)


def _by_class(leaks: Sequence[bool], names: Sequence[str]) -> dict[str, float]:
    by_name: dict[str, list[bool]] = defaultdict(list)
    for leak, name in zip(leaks, names, strict=True):
        by_name[name].append(leak)
    return {name: fmean(each) for name, each in by_name.items()}


def _values(output: str) -> Iterator[tuple[str, str]]:
    """Yield each text of an output with the last two parts of its path: ``model.name``; and each
    name of a member, which has no place."""
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


def _texts(output: str) -> set[str]:
    return {text for _, text in _values(output)}


def _arriving(listed: Sequence[Listed], output: str) -> Iterator[bool]:
    texts = _texts(output)
    for one in listed:
        yield one.written in texts or one.canonical in texts


def _valid_bits(events: Sequence[Sequence[_Spelled]], outputs: Sequence[str]) -> float:
    """Return the bits of an event, field by field."""
    found = [set(_values(output)) for output in outputs]
    return sum(_field_bits(column, found) for column in zip(*events, strict=True))


def _field_bits(column: Sequence[_Spelled], found: Sequence[set[tuple[str, str]]]) -> float:
    """Return the bits that a field brings over, on average. How a value is written counts where it
    is left as it was, and absence where the field arrives at all."""
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
