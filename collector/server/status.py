"""What ``/status`` shows to operators: names of the configuration, states, counts and times.

Sizes are whole MiB and whole percents, rounded up: a live byte count would show the size of one
record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from collector.contracts import Backlog, to_minute
from collector.errors import CollectorError
from collector.ledger import Ledger, opened
from collector.ops.sink_state import Condition, SinkState

if TYPE_CHECKING:
    from collector.pages.model import HourFacts

_MIB = 1 << 20
_HOUR, _DAY, _YEAR = 3600.0, 86_400.0, 365 * 86_400.0
_TOLD_HOURS = 24
"""The number of whole hours that are shown."""
_SOON_DAYS = 21
"""A certificate that expires within so many days is marked, as in the alert."""


@dataclass(frozen=True)
class Status:
    """The status of a sidecar at ``now``. ``checks`` are the checks of ``/readyz``, and
    ``until_full`` is in seconds. ``workers`` says how many workers receive, of how many."""

    now: datetime
    schemas: Sequence[str]
    data: Path
    spool: Path
    checks: Mapping[str, str]
    is_ready: bool
    used: int
    limit: int
    until_full: float | None
    batches: int
    sinks: Mapping[str, SinkState]
    certificates: Mapping[str, datetime]
    workers: tuple[int, int]
    replaced: int
    confined: int
    reloaded: datetime
    is_reloaded: bool


class _Row(NamedTuple):
    """A sink: its name, whether it keeps up, or why not, and its counts in words."""

    name: str
    verdict: str
    state: str
    why: str
    is_absent: bool
    waiting: str
    share: str
    lag: str
    delivered: str
    missed: str
    aside: int


class _Fact(NamedTuple):
    """A heading, a figure in words, a remark, and its marking."""

    title: str
    figure: str
    text: str
    verdict: str = ""


def last_hours(spool: Path, now: datetime) -> tuple[HourFacts, ...] | None:
    """Return what came in by the hour, the newest first; ``None`` if the ledger cannot be read."""
    with suppress(CollectorError), opened(spool) as ledger:
        return _hours(ledger, now)
    return None


def _hours(ledger: Ledger, now: datetime) -> tuple[HourFacts, ...]:
    """Return what came in by the hour, the newest first.

    The current hour would show single requests. Sums are written up to a minute late, so the hour
    before it may still grow, and is left out too.
    """
    from collector.pages.model import HourFacts  # noqa: PLC0415 - only for a page

    this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    told = [this - timedelta(hours=ago) for ago in range(2, _TOLD_HOURS + 2)]
    found = ledger.hourly(told[-1])
    pairs = ((hour, found.get(to_minute(hour))) for hour in told)
    return tuple(
        HourFacts(hour, each.bytes_in, each.bytes_out, dict(sorted(each.content.items())))
        for hour, each in pairs
        if each is not None
    )


def _head(ledger: Ledger) -> list[tuple[str, int, str]]:
    """Return the last receipt and the last entry of a ledger, each with number and hash."""
    tips = {"Last receipt": ledger.tip, "Last entry": ledger.last_entry}
    return [(name, tip.sequence, tip.hash.hex()) for name, tip in tips.items() if tip]


def render_status(status: Status) -> bytes:
    """Write the status as an HTML page without a script."""
    from collector.pages.render import environment, policy  # noqa: PLC0415 - only for a page

    style = status_style()
    template = environment().get_template("status.html.j2")
    head = hours = None
    with suppress(CollectorError), opened(status.spool) as ledger:
        head, hours = _head(ledger), _hours(ledger, status.now)
    text = template.render(
        status=status,
        style=style,
        policy=policy(style),
        facts=[*_facts(status)],
        sinks=[_row(*each) for each in status.sinks.items()],
        head=head,
        hours=hours,
        verify=f"collector ledger verify --data {quote(str(status.data))}",
        now=_moment(status.now),
    )
    return text.encode()


def status_style() -> str:
    """Return the style of the page: the public page's style, and its own."""
    from collector.pages.render import static  # noqa: PLC0415 - only for a page

    return static("page.css") + static("status.css")


def _facts(status: Status) -> list[_Fact]:
    percent = ceil(100 * status.used / status.limit) if status.limit else 0
    sizes = f"{_number(ceil(status.used / _MIB), 'MiB', '')} of {status.limit // _MIB:,} MiB"
    ready, number = status.workers
    late = [each for each in status.sinks.values() if each.delivery.is_late]
    found = [
        _Fact("Spool", f"{percent} % full", f"{_number(status.batches, 'batch', 'es')}, {sizes}."),
        _Fact("Spool full", *_until(status.until_full)),
        _Fact(
            "Sinks",
            _number(sum(not each.is_absent for each in status.sinks.values()), "sink"),
            f"{len(late) or 'None'} late.",
            "unproven" if late else "",
        ),
        _Fact(
            "Workers",
            f"{ready} of {number} receive",
            f"{status.confined} confined by the kernel, {status.replaced} replaced.",
            "" if ready == number else "unproven",
        ),
        _Fact(
            "Configuration",
            "in force" if status.is_reloaded else "last reload failed",
            f"Read {_moment(status.reloaded)}."
            + ("" if status.is_reloaded else " Run `collector config reload` to see why."),
            "" if status.is_reloaded else "broken",
        ),
    ]
    for name, expiry in status.certificates.items():
        days = int((expiry - status.now).total_seconds() // _DAY)
        figure = f"{_number(days, 'day')} left" if days >= 0 else "expired"
        mark = "broken" if days < 0 else "unproven" if days < _SOON_DAYS else ""
        found.append(_Fact(f"Certificate of {name}", figure, f"Valid to {_moment(expiry)}.", mark))
    if not status.certificates:
        found.append(_Fact("Certificates", "none", "No address of this sidecar has TLS."))
    return found


def _until(seconds: float | None) -> tuple[str, str, str]:
    """Say when the spool will be full at its present rate."""
    if seconds is None:
        return "not known yet", "Known after ten minutes.", ""
    if seconds > _YEAR:
        return "not in sight", "It did not grow enough in the last hour.", ""
    figure = f"in {_number(int(seconds // _DAY), 'day')}"
    if seconds < 2 * _DAY:
        figure = f"in {_number(ceil(seconds / _HOUR), 'hour')}"
    return figure, "At the rate of the last hour.", "broken" if seconds < _DAY else "unproven"


_CONDITIONS: Mapping[Condition, tuple[str, str]] = {
    "ok": ("holds", "up to date"),
    "late": ("unproven", "late"),
    "skipping": ("unproven", "skips"),
    "absent": ("unproven", "not in the configuration"),
    "blocking": ("broken", "blocks the spool"),
}
"""The marking and the remark for a sink."""


def _row(name: str, sink: SinkState) -> _Row:
    delivery, backlog = sink.delivery, sink.backlog
    answer = f" ({delivery.answer})" if delivery.answer else ""
    failures = ", ".join(f"{times:,} {cause}" for cause, times in sorted(delivery.causes.items()))
    figure, _, _ = _until(sink.until_full)
    share = f"{ceil(100 * backlog.share)} % of {_number(backlog.limit // _MIB, 'MiB', '')}"
    missed = {"skipped": backlog.skipped, "expired": backlog.expired, "erased": backlog.erased}
    return _Row(
        name,
        *_CONDITIONS[sink.condition],
        f"{delivery.cause}{answer}" if delivery.failing else "",
        sink.is_absent,
        _waiting(backlog),
        f"{share}, full {figure}",
        _seconds(backlog.lag),
        f"{_number(backlog.delivered.records, 'record')}, failures: {failures or 'none'}",
        ", ".join(f"{each.records:,} {what}" for what, each in missed.items() if each.records)
        or "none",
        backlog.aside.batches,
    )


def _waiting(backlog: Backlog) -> str:
    if not backlog.batches:
        return "nothing"
    batches = _number(backlog.batches, "batch", "es")
    size = f"{ceil(backlog.bytes / _MIB):,} MiB"
    records = _number(backlog.records, "record")
    return f"{batches}, {records}, {size}, oldest {_seconds(backlog.oldest)}"


def _seconds(seconds: float) -> str:
    if seconds < 2 * 60:
        return f"{ceil(seconds)} s"
    if seconds < 2 * _HOUR:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // _HOUR)} h" if seconds < 2 * _DAY else f"{int(seconds // _DAY)} days"


def _number(number: int, unit: str, plural: str = "s") -> str:
    return f"{number:,} {unit}{'' if number == 1 else plural}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
