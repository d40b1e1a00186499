"""Minimise the logs of an application: a processor for structlog, and handlers for ``logging``.

    structlog.configure(processors=[Minimise("conferencing"), structlog.processors.JSONRenderer()])
    logger.addHandler(MinimisingHandler(logging.StreamHandler(), "conferencing"))
    logger.addHandler(EmittingHandler(telemetry))

They admit members that the schema lists, and the message if the field ``event.name`` admits it.
They never format a message. Other handlers of the process get log records unchanged.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from collector.contracts import Tally
from collector.errors import ConfigError
from collector.filter import Filter
from collector.keyring import Keyring
from collector.ops.log_allowlist import (
    MESSAGE,
    AdmittedMembers,
    AllowlistProcessor,
    LeftOut,
    Members,
    reason,
)
from collector.ops.total import Total
from collector.schema import load_schema
from collector.schema.model import Schema
from collector.schema.scalars import beside, condition_of, path_of
from collector.schema.scalars import keys as keys_of

if TYPE_CHECKING:
    from collector.sdk.account import Account
    from collector.sdk.client import Collector

__all__ = ["EmittingHandler", "Minimise", "MinimisingHandler"]

Keys = Callable[[str, int], bytes]

_NAME = "event.name"
"""The field for the message."""
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
_LOGGER = "minimised"
_MINUTE = 60


def _blank(level: int) -> logging.LogRecord:
    """Make a log record with only its level and the minute. It does not use the application's log
    record factory, which may add members."""
    record = logging.LogRecord(_LOGGER, level, "", 0, "", None, None)
    record.created = float(int(time()) // _MINUTE * _MINUTE)
    record.msecs = record.relativeCreated = 0.0
    record.thread = record.threadName = record.process = record.processName = None
    if hasattr(record, "taskName"):  # since Python 3.12
        record.taskName = None
    return record


_STANDARD_MEMBERS = frozenset(_blank(logging.DEBUG).__dict__) | {"message", "asctime"}
"""The members of every log record; all others are the application's."""


class _LogFilter:
    """Filters log events with a schema. Safe to use from several threads."""

    def __init__(self, schema: str | Path | Schema, keys: Keys | None) -> None:
        loaded = schema if isinstance(schema, Schema) else load_schema(schema)
        if loaded.records:
            raise ConfigError(
                "E122", "a log event is one record: the schema must have no `records`"
            )
        self._filter = Filter(loaded, keys=keys or Keyring())
        self._known = _known(loaded)
        self._total = Total(Tally)

    def __call__(self, message: Any, members: Members) -> AdmittedMembers:
        """Return the admitted fields under their canonical names, the message as ``event`` (empty
        unless it is admitted), and the names of what is left out."""
        admission = self._filter.admit(_event(self._filter.schema, message, members))
        self._total.add(admission.tally)
        unknown = [name for name in members if name not in self._known]
        admitted: Members | None = None
        for record in admission.records:  # one, or none
            del record["schema"]
            admitted = {MESSAGE: record.pop(_NAME, ""), **record}
        if message is not None and (_NAME in members or not (admitted and admitted[MESSAGE])):
            unknown.append(MESSAGE)
        return AdmittedMembers(admitted, unknown)

    def tally(self) -> Tally:
        return self._total.sum()


class Minimise(AllowlistProcessor):
    """A structlog processor: rebuilds an event from the members that a schema admits, under their
    canonical names, with the message as ``event`` if the field ``event.name`` admits it (else
    empty). It drops an event without an admitted value.

    ``schema`` is a shipped schema's name, a file, or a schema; ``keys`` resolves the key references
    of pseudonyms. Members of later processors, for example a time or a level, stay.

    Raises ``ConfigError`` E122 for a schema with ``records``, E202 for a key that is not available,
    and ``SchemaError``.
    """

    def __init__(
        self, schema: str | Path | Schema = "conferencing", *, keys: Keys | None = None
    ) -> None:
        self._log_filter = _LogFilter(schema, keys)
        super().__init__(self._log_filter)

    def tally(self) -> Tally:
        """Return the counts of the schema for the events so far."""
        return self._log_filter.tally()


class MinimisingHandler(logging.Handler):
    """Passes new log records to another handler, with what a schema admits: the message (empty
    unless ``event.name`` admits it), fields as ``extra`` sets them, level and minute.

    Level, filters and formatter of ``handler`` apply. Raises as ``Minimise`` does.
    """

    def __init__(
        self,
        handler: logging.Handler,
        schema: str | Path | Schema = "conferencing",
        *,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._log_filter = _LogFilter(schema, keys)
        self._left_out = Total(Counter[LeftOut])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on what is admitted of a log record."""
        message, members, reasons = _read(record)
        admitted, unknown = self._log_filter(message, members)
        self._left_out.add(Counter([*reasons, *map(reason, unknown)]))
        level = next((level for level in _LEVELS if record.levelno >= level), logging.DEBUG)
        del record, message, members, unknown
        if admitted is not None and level >= self._handler.level:
            fresh = _blank(level)
            fresh.msg = admitted.pop(MESSAGE)
            custom = admitted.keys() - _STANDARD_MEMBERS
            fresh.__dict__.update((name, admitted[name]) for name in custom)
            self._handler.handle(fresh)

    def tally(self) -> Tally:
        """Return the counts of the schema for the log records so far."""
        return self._log_filter.tally()

    def left_out(self) -> Counter[LeftOut]:
        """Return the counts of what was left out so far, by reason."""
        return self._left_out.sum()

    def flush(self) -> None:
        """Flush the other handler."""
        self._handler.flush()

    def close(self) -> None:
        """Close this handler and the other one."""
        self._handler.close()
        super().close()


class EmittingHandler(logging.Handler):
    """Emits log records to a ``Collector``, as events with the same members. Does not close it."""

    def __init__(self, telemetry: Collector) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._known = _known(telemetry.schema)
        self._left_out = Total(Counter[LeftOut])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def emit(self, record: logging.LogRecord) -> None:
        """Emit what is admitted of a log record."""
        message, members, reasons = _read(record)
        unknown = members.keys() - self._known
        self._left_out.add(Counter([*reasons, *map(reason, unknown)]))
        self._telemetry.emit(_event(self._telemetry.schema, message, members))

    def tally(self) -> Account:
        """Return the account of the ``Collector``, which counts other events too."""
        return self._telemetry.tally()

    def left_out(self) -> Counter[LeftOut]:
        """Return the counts of what was left out so far, by reason."""
        return self._left_out.sum()


def _event(schema: Schema, message: Any, members: Members) -> Members:
    """Make the event for the filter. A member ``event.name`` comes before the message."""
    return {_NAME: message, **members} if _NAME in schema.fields else members


def _known(schema: Schema) -> frozenset[str]:
    """Collect the names of members that a schema reads, and those that it counts as content."""
    paths = [path for name, field in schema.fields.items() for path in field.paths(name)]
    paths += [*schema.user_agent_paths, *filter(None, [schema.consent])]
    paths += [
        beside(path_of(source), member)
        for field in schema.fields.values()
        for source in field.sources or ()
        for member, _ in condition_of(source)
    ]
    return frozenset([*paths, *(str(keys_of(path)[0]) for path in paths), *schema.content_names])


def _read(record: logging.LogRecord) -> tuple[Any, Members, list[LeftOut]]:
    """Return the unformatted message of a log record, the application's members, and the reasons
    for which other parts are left out."""
    own = record.__dict__
    members = {name: value for name, value in own.items() if name not in _STANDARD_MEMBERS}
    args = own.get("args")
    present: dict[LeftOut, bool] = {
        "arguments": not (args is None or (type(args) is tuple and not args)),
        "exception": _is_present(own, "exc_info") or _is_present(own, "exc_text"),
        "stack": _is_present(own, "stack_info"),
    }
    return own.get("msg"), members, [reason for reason, is_present in present.items() if is_present]


def _is_present(own: Members, name: str) -> bool:
    value = own.get(name)
    return value is not None and value is not False
