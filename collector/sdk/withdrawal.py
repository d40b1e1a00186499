"""Withdraw consent: remove a person's data for optional purposes from every place that this process
can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import monotonic
from typing import TYPE_CHECKING

from collector.contracts import Removal, Subject
from collector.errors import DeliveryError
from collector.filter.redaction import Rule, find_subject
from collector.schema import Schema
from collector.sdk.delivery import RecordDelivery
from collector.sdk.queue import RecordQueue
from collector.sdk.sender import open_sink_of, sink_settings
from collector.sdk.settings import Settings

if TYPE_CHECKING:
    from collector.spool import Spool

Moment = str | date | datetime
"""A day or a moment: an RFC 3339 text, a ``date``, or a ``datetime`` with a time zone."""

_BEYOND = (
    "memory of other processes, and the spools that they have open",
    "backups and other copies",
)
_KEPT = "the sink, which cannot forget what it got"
_SENT = "the sidecar, for records that it has accepted: `collector subject object` there"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The result of a withdrawal: how many records were changed or removed in memory (``queued``),
    in the spool (``spooled``), and in a store or a file on this machine (``stored``). ``damaged``
    counts unreadable batches and files of the spool, which are deleted whole.

    ``is_swept`` says that no byte is left. Otherwise another connection is reading an earlier
    state, so withdraw again later. ``beyond`` describes the places that were not reached.
    """

    queued: int
    spooled: int
    stored: int
    damaged: int
    is_swept: bool
    beyond: tuple[str, ...]


class WithdrawalRequest:
    """A withdrawal for one person, with a time limit in seconds.

    Raises ``InputError`` as ``collector.filter.redaction.find`` does, and ``TypeError`` for an
    argument that is not a text, day or moment.
    """

    def __init__(
        self,
        settings: Settings,
        schema: Schema,
        *,
        field: str,
        value: str,
        since: Moment,
        until: Moment | None,
        seconds: float,
    ) -> None:
        if not all(isinstance(given, str) for given in (field, value)):
            raise TypeError("`field` and `value` are texts")
        until = datetime.now(UTC) if until is None else until
        self._settings, self._schema = settings, schema
        self._subject: Subject = find_subject(schema, field, value, _text(since), _text(until))
        self._rule = Rule.removal(self._subject, schema.refusable)
        self._deadline = monotonic() + seconds

    def run(self, queue: RecordQueue, delivery: RecordDelivery | None) -> Withdrawal:
        """Pause the delivery, and redact memory, spools and sink. Without ``delivery``, open the
        spools that no process has open.

        Raises ``DeliveryError``; a second request completes the first.
        """
        if not queue.delivery_lock.acquire(timeout=self._left()):
            raise DeliveryError("E514", "records are being delivered all the time; try again later")
        try:
            queued = queue.rewrite(self._rule, "withdrawn")
            with self._spools(delivery) as spools:
                stored, is_swept, beyond = self._redact_sink()
                account = None if delivery is None else queue
                cleared = [self._rewrite_spool(spool, stored, account) for spool in spools]
        finally:
            queue.delivery_lock.release()
        return Withdrawal(
            queued,
            sum(each.records for each in cleared),
            stored,
            sum(each.damaged + each.files for each in cleared),
            is_swept and all(each.is_swept for each in cleared),
            beyond + _BEYOND,
        )

    def _left(self) -> float:
        return max(0.0, self._deadline - monotonic())

    @contextmanager
    def _spools(self, delivery: RecordDelivery | None) -> Iterator[Sequence[Spool]]:
        root = self._settings.spool
        if delivery is not None:
            with delivery.paused(self._left()) as spools:
                yield spools
        elif root is None:
            yield ()
        else:
            from collector.sdk.spooled_delivery import open_unclaimed  # noqa: PLC0415 - as below

            with open_unclaimed(root, self._settings.spool_limit) as spools:
                yield spools

    def _rewrite_spool(self, spool: Spool, rows: int, queue: RecordQueue | None) -> Removal:
        from collector.sdk.spooled_delivery import rewrite_spool  # noqa: PLC0415 - rarely used

        wait = self._left()
        return rewrite_spool(spool, self._rule, self._subject, rows=rows, wait=wait, queue=queue)

    def _redact_sink(self) -> tuple[int, bool, tuple[str, ...]]:
        """Redact the sink. Returns how many rows or lines were changed or removed, whether no byte
        is left there, and the places that were not reached."""
        target = self._settings.target
        if not target.is_sink:
            return 0, True, (_SENT,)
        from collector.sinks.sink import ErasableSink  # noqa: PLC0415 - not for a sidecar

        with open_sink_of(target, self._schema, wait=self._left()) as sink:
            if not isinstance(sink, ErasableSink):
                return 0, True, (_KEPT,)
            (removal,) = sink.rewrite([self._rule])
            beyond = tuple(sink_settings(target).beyond()) if target.url else ()
            return removal.records, removal.is_swept, beyond


def _text(moment: Moment) -> str:
    if isinstance(moment, date):  # a datetime is one
        return moment.isoformat()
    if isinstance(moment, str):
        return moment
    raise TypeError("`since` and `until` are texts, or days or moments of `datetime`")
