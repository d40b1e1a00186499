"""Logs of an application, minimised: a processor for structlog, and handlers for ``logging``.

    structlog.configure(processors=[Minimise("conferencing"), structlog.processors.JSONRenderer()])
    logger.addHandler(MinimisingHandler(logging.StreamHandler(), "conferencing"))
    logger.addHandler(EmittingHandler(telemetry))

They keep members that the schema lists, and the message where its field ``event.name`` admits it.
A message is never formatted. What other handlers of the process do with a log record is out of
their reach.
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
from collector.ops.listed import MESSAGE, Kept, LeftOut, Listed, Members, reason
from collector.ops.total import Total
from collector.schema import load_schema
from collector.schema.model import Schema
from collector.schema.terms import keys as keys_of

if TYPE_CHECKING:
    from collector.sdk.account import Account
    from collector.sdk.client import Collector

__all__ = ["EmittingHandler", "Minimise", "MinimisingHandler"]

Keys = Callable[[str, int], bytes]

_NAME = "event.name"
"""The field that a message is for."""
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
_LOGGER = "minimised"
_MINUTE = 60


def _blank(level: int) -> logging.LogRecord:
    """A log record that says nothing but its level and the minute. Not of the factory that an
    application may have set, which adds what it likes."""
    record = logging.LogRecord(_LOGGER, level, "", 0, "", None, None)
    record.created = float(int(time()) // _MINUTE * _MINUTE)
    record.msecs = record.relativeCreated = 0.0
    record.thread = record.threadName = record.process = record.processName = None
    if hasattr(record, "taskName"):  # since Python 3.12
        record.taskName = None
    return record


_OWN = frozenset(_blank(logging.DEBUG).__dict__) | {"message", "asctime"}
"""What a log record of ``logging`` has by itself; anything else is the application's."""


class _Allowlist:
    """A schema at work on log events. Safe to use from several threads."""

    def __init__(self, schema: str | Path | Schema, keys: Keys | None) -> None:
        loaded = schema if isinstance(schema, Schema) else load_schema(schema)
        if loaded.records:
            raise ConfigError(
                "E204", "a log event is one record: the schema must have no `records`"
            )
        self._filter = Filter(loaded, keys=keys or Keyring())
        self._known = _known(loaded)
        self._total = Total(Tally)

    def __call__(self, message: Any, members: Members) -> Kept:
        """Fields under their canonical names, and the message as ``event``, which is empty unless
        it was admitted."""
        admission = self._filter.admit(_event(self._filter.schema, message, members))
        self._total.add(admission.tally)
        unknown = [name for name in members if name not in self._known]
        kept: Members | None = None
        for record in admission.records:  # one, or none
            del record["schema"]
            kept = {MESSAGE: record.pop(_NAME, ""), **record}
        if message is not None and (_NAME in members or not (kept and kept[MESSAGE])):
            unknown.append(MESSAGE)
        return Kept(kept, unknown)

    def tally(self) -> Tally:
        return self._total.sum()


class Minimise(Listed):
    """A structlog processor: an event goes on with the members that a schema admits, under their
    canonical names, and with its message as ``event`` if the field ``event.name`` admits it (else
    that is empty). An event of which nothing is admitted is dropped.

    ``schema`` is a shipped schema's name, a file, or a schema; ``keys`` resolves the key references
    of pseudonyms. What later processors add, as a time or a level, stays.

    Raises ``ConfigError`` E204 for a schema with ``records``, E202 for a key that cannot be had,
    and ``SchemaError``.
    """

    def __init__(
        self, schema: str | Path | Schema = "conferencing", *, keys: Keys | None = None
    ) -> None:
        self._allowlist = _Allowlist(schema, keys)
        super().__init__(self._allowlist)

    def tally(self) -> Tally:
        """What the schema made of the events so far."""
        return self._allowlist.tally()


class MinimisingHandler(logging.Handler):
    """Hands on to another handler what a schema admits of log records, as new ones: the message
    (empty unless ``event.name`` admits it), fields as ``extra`` gives them, level and minute.

    A level and filters of ``handler`` hold; its formatter is the one that counts. Raises as
    ``Minimise`` does.
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
        self._allowlist = _Allowlist(schema, keys)
        self._left_out = Total(Counter[LeftOut])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on what is admitted of a log record."""
        message, members, reasons = _read(record)
        kept, unknown = self._allowlist(message, members)
        self._left_out.add(Counter([*reasons, *map(reason, unknown)]))
        level = next((level for level in _LEVELS if record.levelno >= level), logging.DEBUG)
        del record, message, members, unknown
        if kept is not None and level >= self._handler.level:
            fresh = _blank(level)
            fresh.msg = kept.pop(MESSAGE)
            fresh.__dict__.update((name, kept[name]) for name in kept.keys() - _OWN)
            self._handler.handle(fresh)

    def tally(self) -> Tally:
        """What the schema made of the log records so far."""
        return self._allowlist.tally()

    def left_out(self) -> Counter[LeftOut]:
        """What was left out of them so far, as counts."""
        return self._left_out.sum()

    def flush(self) -> None:
        """Flush the other handler."""
        self._handler.flush()

    def close(self) -> None:
        """Close the other handler, too."""
        self._handler.close()
        super().close()


class EmittingHandler(logging.Handler):
    """Gives log records to a ``Collector``, as events of the same members. It is not closed."""

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
        """The account of the ``Collector``, of whatever is emitted to it."""
        return self._telemetry.tally()

    def left_out(self) -> Counter[LeftOut]:
        """What was left out of log records so far, as counts."""
        return self._left_out.sum()


def _event(schema: Schema, message: Any, members: Members) -> Members:
    """An event for the filter. A member called ``event.name`` comes before the message."""
    return {_NAME: message, **members} if _NAME in schema.fields else members


def _known(schema: Schema) -> frozenset[str]:
    """The names of members that a schema looks for, and those of content, which are counted."""
    paths = [path for name, field in schema.fields.items() for path in field.paths(name)]
    paths += [*schema.user_agent_paths, *filter(None, [schema.consent])]
    return frozenset([*paths, *(str(keys_of(path)[0]) for path in paths), *schema.content_names])


def _read(record: logging.LogRecord) -> tuple[Any, Members, list[LeftOut]]:
    """The message of a log record, unformatted; what the application added; and what else there is
    that is left out."""
    own = record.__dict__
    members = {name: value for name, value in own.items() if name not in _OWN}
    args = own.get("args")
    there: dict[LeftOut, bool] = {
        "arguments": not (args is None or (type(args) is tuple and not args)),
        "exception": _is_there(own, "exc_info") or _is_there(own, "exc_text"),
        "stack": _is_there(own, "stack_info"),
    }
    return own.get("msg"), members, [what for what, is_there in there.items() if is_there]


def _is_there(own: Members, name: str) -> bool:
    value = own.get(name)
    return value is not None and value is not False
