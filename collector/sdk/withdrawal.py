"""Consent is withdrawn: what was kept of somebody for optional purposes only goes, from everywhere
that this process can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from collector.contracts import Subject
from collector.errors import DeliveryError
from collector.filter.revision import Objection, changing
from collector.filter.subject import find
from collector.schema import Schema
from collector.sdk.buffer import Buffer
from collector.sdk.delivery import Delivery
from collector.sdk.settings import Settings
from collector.sdk.target import Target

if TYPE_CHECKING:
    from collector.backlog import Cleared
    from collector.spool import Spool

__all__ = ["Moment", "Withdrawal", "Withdrawing"]

Moment = str | date | datetime
"""A day or a moment: RFC 3339, or an object of the standard library that says its time zone."""

_BEYOND = (
    "what other processes still hold: in memory, and in spools that they have open",
    "backups, and copies that others made",
)
_SENT = "what the sidecar has taken: `collector subject object` there"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What was done: how many records have less in them, or are gone, that waited in memory
    (``queued``) or on disk (``spooled``), or that were delivered into a store or a file of this
    machine (``stored``). ``damaged`` counts batches and files of the spool that nobody can read;
    they are deleted whole.

    ``is_swept`` says that no byte of it is left; else somebody is reading an earlier state: do it
    again later. ``beyond`` is, in words, where more of it may be.
    """

    queued: int
    spooled: int
    stored: int
    damaged: int
    is_swept: bool
    beyond: tuple[str, ...]


class Withdrawing:
    """One withdrawal, for a schema and its settings, that may take so many seconds.

    Raises ``InputError`` as ``collector.filter.subject.find`` does, and ``TypeError`` for what is
    no text, day or moment.
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
        self._subject: Subject = find(schema, field, value, _text(since), _text(until))
        self._reason = Objection(self._subject, schema.refusable)
        self._deadline = monotonic() + seconds

    def carry_out(self, buffer: Buffer, delivery: Delivery | None) -> Withdrawal:
        """Take it out of memory, spools and sink, while nothing is delivered. Without ``delivery``
        spools are opened, if there are any that nobody has open.

        Raises ``DeliveryError``; what was not done is done by doing it again.
        """
        if not buffer.turn.acquire(timeout=self._left()):
            raise DeliveryError("E510", "records are being delivered all the time; try again later")
        try:
            queued = buffer.revise(changing(self._reason), "withdrawn")
            with self._spools(delivery) as spools:
                stored, is_swept = self._from_sink(self._settings.target)
                account = None if delivery is None else buffer
                cleared = [self._from_spool(spool, stored, account) for spool in spools]
        finally:
            buffer.turn.release()
        return Withdrawal(
            queued,
            sum(each.outcome.records for each in cleared),
            stored,
            sum(each.outcome.damaged + each.files for each in cleared),
            is_swept and all(each.outcome.is_swept for each in cleared),
            _BEYOND if self._settings.target.is_file else (_SENT, *_BEYOND),
        )

    def _left(self) -> float:
        return max(0.0, self._deadline - monotonic())

    @contextmanager
    def _spools(self, delivery: Delivery | None) -> Iterator[Sequence[Spool]]:
        root = self._settings.spool
        if delivery is not None:
            with delivery.still(self._left()) as spools:
                yield spools
        elif root is None:
            yield ()
        else:
            from collector.sdk.slots import left_behind  # noqa: PLC0415 - as below

            with left_behind(
                root, self._settings.spool_limit, self._settings.target.scheme
            ) as spools:
                yield spools

    def _from_spool(self, spool: Spool, rows: int, buffer: Buffer | None) -> Cleared:
        from collector.sdk.detour import amend  # noqa: PLC0415 - most have no spool

        wait = self._left()
        return amend(spool, self._reason, self._subject, rows=rows, wait=wait, buffer=buffer)

    def _from_sink(self, target: Target) -> tuple[int, bool]:
        """How many rows or lines have less in them, and whether no byte of it is left there."""
        subject, fields = self._subject, self._schema.refusable
        if target.scheme == "sqlite":
            from collector.sinks import held  # noqa: PLC0415 - of the sinks, one is used

            action = partial(held.clear, subject=subject, fields=fields)
            return held.remove(target.path, action, self._left())
        if target.scheme == "ndjson":
            from collector.sinks.files import NdjsonFile, files_of  # noqa: PLC0415

            if files_of(target.path):
                with NdjsonFile(target.path, shared=True) as file:
                    return file.revise(changing(self._reason)), True
        return 0, True


def _text(moment: Moment) -> str:
    if isinstance(moment, date):  # a datetime is one
        return moment.isoformat()
    if isinstance(moment, str):
        return moment
    raise TypeError("`since` and `until` are texts, or days or moments of `datetime`")
