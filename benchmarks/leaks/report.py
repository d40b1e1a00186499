"""The figures as tables, as a chart, and against the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import svg
from benchmarks.gate import Limits, Verdict
from benchmarks.leaks.classes import ENCODINGS, PAYLOADS, SLOTS, Class
from benchmarks.leaks.environments import CONTENDERS
from benchmarks.leaks.figures import Figures, Result
from benchmarks.report import Table

_OURS = CONTENDERS[0].title
_LONGEST = 1_200
"""Characters of a configuration that are printed; JSON has all of them."""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.9995 else f"{100 * share:.0f}"


def _named(result: Result) -> str:
    return f"{result.title}, {result.variant}"


def tables(figures: Figures) -> list[Table]:
    """Return all tables that have rows."""
    found = [
        _main(figures),
        _by("slot", SLOTS, lambda result: result.by_slot, figures),
        _by("encoding", ENCODINGS, lambda result: result.by_encoding, figures),
        _by("payload", PAYLOADS, lambda result: result.by_payload, figures),
        _delivered(figures),
        _channels(figures),
        _sweep(figures),
    ]
    return [table for table in found if table.rows]


def _main(figures: Figures) -> Table:
    rows = tuple(
        (
            _named(one),
            _percent(one.wild),
            _percent(one.attacker),
            _percent(one.personal),
            _percent(one.utility),
            f"{one.bits:,.0f}" + ("+" if one.is_free else ""),
            f"{one.us:,.0f}",
            f"{one.peak_mb:,.0f}",
        )
        for one in figures.results
    )
    number = figures.results[0].attacks if figures.results else 0
    title = f"{number:,} attacks: % that come through, and what is left of use"
    header = (
        *("contender", "as in the wild", "as an attacker picks", "personal data in free text"),
        *("utility %", "bits per event", "µs per event", "peak MB"),
    )
    return Table(title, header, rows)


def _by(
    axis: str,
    classes: tuple[Class, ...],
    of: Callable[[Result], dict[str, float]],
    figures: Figures,
) -> Table:
    names = tuple(each.name for each in classes)
    rows = tuple(
        (_named(one), *(_percent(of(one)[name]) if name in of(one) else "–" for name in names))
        for one in figures.results
    )
    return Table(f"% of attacks that come through, by {axis}", ("contender", *names), rows)


def _delivered(figures: Figures) -> Table:
    rows = tuple(
        (
            one.schema,
            f"{one.stated:.2f}",
            f"{one.delivered:.2f}",
            f"{one.share:.4f}",
            f"{one.records:,}",
            str(one.beyond),
        )
        for one in figures.delivered
    )
    header = ("schema", "stated bits", "delivered bits", "share", "records", "values beyond")
    return Table("bits of a record over `/v1/events`, spelled by a hostile client", header, rows)


def _channels(figures: Figures) -> Table:
    rows = tuple(
        (
            one.name,
            one.sentence,
            one.per,
            f"{one.offered:.1f}",
            "–" if one.delivered is None else f"{one.delivered:.1f}",
            one.ceiling,
        )
        for one in figures.channels
    )
    header = ("channel", "what spells", "per", "bits offered", "bits read", "bounded by")
    return Table("channels beside the record, measured on a running sidecar", header, rows)


def _sweep(figures: Figures) -> Table:
    sweep = figures.sweep
    rows = [(f"sent: {way}", f"{number:,}", "") for way, number in sweep.attacks.items()]
    rows += [(f"records: {place}", f"{number:,}", "") for place, number in sweep.records.items()]
    total, leaks = sum(sweep.attacks.values()), sum(sweep.leaks.values())
    if total:
        rows.append(("attacks, leaks", f"{total:,}", f"{leaks:,}"))
    return Table("attacks on whole Collectors", ("what", "number", "leaks"), tuple(rows))


def ties(figures: Figures) -> str:
    """Name the contenders that let nothing through."""
    return ", ".join(_named(one) for one in figures.results if not one.leaks) or "nobody"


def configurations(figures: Figures) -> str:
    """Return the configuration of each contender, cut where it is long."""
    parts = []
    for one in figures.results:
        text = one.configuration.strip()
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\n… ({len(text):,} characters; `--json` has all)"
        parts.append(f"{_named(one)} ({one.version}):\n\n{text}")
    return "\n\n".join(parts)


_LEFT, _RIGHT, _ROW, _TOP = 240, 690, 24, 64
_WIDTH = 760


def chart(figures: Figures) -> str:
    """Return the leak rates as bars, as an SVG document: in the wild, and as an attacker picks."""
    results = figures.results
    height = _TOP + _ROW * 1.5 * len(results) + 30
    title = "Attacks that come through, in %"
    drawing = svg.Drawing(_WIDTH, height, title)
    drawing.text(16, 26, title, size=15, bold=True)
    drawing.text(
        16,
        46,
        "upper bar: weighted as in the wild; lower bar: as an attacker picks",
        colour="faint",
    )
    scale = svg.linear(100, _LEFT, _RIGHT)
    for tick in scale.ticks:
        drawing.line([(scale(tick), _TOP - 6), (scale(tick), height - 26)], "rule")
        drawing.text(scale(tick), height - 10, svg.label(tick), colour="faint", anchor="middle")
    for at, one in enumerate(results):
        y = _TOP + at * _ROW * 1.5
        drawing.text(_LEFT - 8, y + 16, _named(one), size=11, anchor="end", bold=one.title == _OURS)
        for share, offset, colour in ((one.wild, 0, "a"), (one.attacker, 12, "c")):
            width = scale(100 * share) - _LEFT
            drawing.bar(_LEFT, y + offset, max(width, 1), 10, colour)
            drawing.text(
                _LEFT + width + 5, y + offset + 9, _percent(share), colour="faint", size=10
            )
    return drawing.svg()


def judge(figures: Figures, limits: Limits) -> Iterator[Verdict]:
    """Yield the verdicts about Collector; nothing about others can fail."""
    if limits.leaks is None:
        yield Verdict(None, "leaks: no limits")
        return
    for one in figures.results:
        if one.title == _OURS:
            yield Verdict(
                not one.leaks, f"{_named(one)}: {one.leaks} leaks in {one.attacks:,} attacks"
            )
            yield Verdict(one.utility == 1, f"{_named(one)}: {_percent(one.utility)} % of use")
    least, most = limits.leaks.share_at_least, limits.leaks.share_at_most
    for each in figures.delivered:
        text = f"{each.schema}: {each.share:.4f} of the stated bits, {least:g} to {most:g}"
        yield Verdict(least <= round(each.share, 9) <= most, text)
        yield Verdict(not each.beyond, f"{each.schema}: {each.beyond} values beyond those counted")
    for channel in figures.channels:
        if channel.delivered is None:
            yield Verdict(None, f"channel {channel.name}: not measured")
            continue
        bound = 0.0 if channel.ceiling.startswith("none") else channel.offered
        told = f"{channel.delivered:.1f} bits, {least:g} to 1 of {bound:.1f}"
        text = f"channel {channel.name}: {told}"
        yield Verdict(least * bound <= channel.delivered <= bound + 1e-9, text)
    named = "; ".join(figures.unnamed) or "every place has a channel"
    has_looked = bool(figures.channels or figures.unnamed)
    yield Verdict(
        not figures.unnamed if has_looked else None,
        f"places: {named if has_looked else 'not looked at'}",
    )
    sweep = figures.sweep
    total = sum(sweep.attacks.values())
    places = ", ".join(f"{place} {number}" for place, number in sweep.leaks.items()) or "0 leaks"
    yield Verdict(
        not sweep.leaks if total else None, f"{total:,} attacks on whole Collectors: {places}"
    )
