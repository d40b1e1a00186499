"""Log lines are filtered by a schema: listed members and messages stay, all others are counted."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from collector import Collector, ConfigError, Schema, load_schema
from collector.sdk.logs import EmittingHandler, Minimise, MinimisingHandler
from tests.filter.traces import CANARY, mentions, reachable
from tests.support.make_schemas import HEAD, REST
from tests.support.rows import for_each

_FIELDS = f"""\
fields:
  event.name: {{kind: enum, values: [joined, left], aliases: {{"%s joined": joined}}, {REST}}}
  os.type: {{kind: enum, values: [linux, darwin], aliases: {{Linux: linux}}, {REST}}}
  client.address: {{kind: ip, from: [ip], {REST}}}
"""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """Make a schema with a field for messages."""
    path = tmp_path_factory.mktemp("schema") / "sample.yaml"
    path.write_text(HEAD + _FIELDS)
    return load_schema(path)


def _processed(processor: Minimise, **event: Any) -> Any:
    try:
        return processor(None, "info", event)
    except structlog.DropEvent:
        return None


def test_members_and_the_message(schema: Schema) -> None:
    """Members have canonical names; a listed message has its canonical form."""
    minimise = Minimise(schema)
    found = _processed(minimise, event="joined", os={"type": "Linux"}, ip="::1", user=CANARY)
    assert found == {"event": "joined", "os.type": "linux", "client.address": "::1"}
    assert minimise.left_out() == {"unlisted": 1}


def test_other_messages_are_left_out(schema: Schema) -> None:
    """The message is empty then; an event of nothing else is dropped."""
    minimise = Minimise(schema)
    assert _processed(minimise, event=CANARY, ip="::1") == {"event": "", "client.address": "::1"}
    assert _processed(minimise, event=CANARY) is None
    assert _processed(minimise, event=["joined"]) is None
    assert minimise.left_out() == {"message": 3}
    tally = minimise.tally()
    assert (tally.received, tally.admitted, tally.rejected["nothing_admitted"]) == (3, 1, 2)
    assert tally.dropped["event.name"] == {"invalid_value": 2, "wrong_type": 1}


def test_without_a_field_for_it_no_message_is_kept() -> None:
    """Every message is left out."""
    minimise = Minimise("conferencing")
    assert _processed(minimise, event="linux", ip="::1") == {"event": "", "client.address": "::1"}
    assert _processed(minimise, event="linux") is None


def test_a_member_comes_before_the_message(schema: Schema) -> None:
    """A member with the name of the field wins."""
    minimise = Minimise(schema)
    assert _processed(minimise, **{"event": "left", "event.name": "joined"}) == {"event": "joined"}
    assert minimise.left_out() == {"message": 1}


def test_structlog(schema: Schema) -> None:
    """A logger with context, context variables, an exception and a stack."""
    said = io.StringIO()
    minimise = Minimise(schema)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(said),
        processors=[
            structlog.contextvars.merge_contextvars,
            minimise,
            structlog.processors.add_log_level,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,  # it leaves formatting to a processor
    )
    with structlog.contextvars.bound_contextvars(request=CANARY, os={"type": "darwin"}):
        try:
            raise ValueError(CANARY)
        except ValueError:
            logger.bind(user=CANARY).exception("left", CANARY, stack_info=True, chat=CANARY)
        logger.info(CANARY)
    first, second = map(json.loads, said.getvalue().splitlines())
    assert first == {"event": "left", "os.type": "darwin", "level": "error"}
    assert second == {"event": "", "os.type": "darwin", "level": "info"}
    assert not mentions(said.getvalue())
    counts = {"unlisted": 3, "exception": 1, "stack": 1, "arguments": 1, "message": 1}
    assert minimise.left_out() == counts
    assert minimise.tally().content["chat"] == 1


class _Kept(logging.Handler):
    """A handler that collects log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def flush(self) -> None:
        self.told.append("flush")

    def close(self) -> None:
        self.told.append("close")
        super().close()


@contextmanager
def _logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    """Make a logger with one handler, which does not propagate."""
    logger = logging.Logger(CANARY)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def _shout(logger: logging.Logger) -> None:
    """Log in every way that ``logging`` has."""
    extra = {"os": {"type": "Linux"}, "ip": "::1", "user": CANARY, CANARY: 1}
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("%s joined", CANARY, extra=extra, stack_info=True)


def test_a_log_record_is_made_anew(schema: Schema) -> None:
    """The message as it stands in the code, if it is listed; members; level and minute. Every other
    attribute that this version of Python gives a log record is a constant."""
    kept = _Kept()
    handler = MinimisingHandler(kept, schema)
    with _logger(handler) as logger:
        _shout(logger)
    (record,) = kept.records
    assert record.getMessage() == "joined"
    assert (record.levelno, record.levelname) == (logging.ERROR, "ERROR")
    said = dict(vars(record))
    assert (said.pop("os.type"), said.pop("client.address")) == ("linux", "::1")
    assert said.pop("created") % 60 == 0
    blank = {"name": "minimised", "msg": "joined", "levelno": 40, "levelname": "ERROR"}
    empty = {name: value for name, value in said.items() if name not in blank}
    assert {name: said[name] for name in blank} == blank
    assert set(map(str, empty.values())) <= {"", "0", "0.0", "None"}
    assert not any(map(mentions, reachable(vars(record))))
    expected = {"arguments": 1, "exception": 1, "stack": 1, "unlisted": 2}
    assert handler.left_out() == expected


def test_a_factory_of_log_records_has_no_say(schema: Schema) -> None:
    """An application's factory may add members to each record."""
    before = logging.getLogRecordFactory()

    def talkative(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.user = CANARY
        return record

    logging.setLogRecordFactory(talkative)
    try:
        kept = _Kept()
        handler = MinimisingHandler(kept, schema)
        with _logger(handler) as logger:
            logger.info("left")
    finally:
        logging.setLogRecordFactory(before)
    assert not any(map(mentions, reachable(vars(kept.records[0]))))
    assert handler.left_out() == {"unlisted": 1}


@pytest.mark.parametrize(
    ("level", "known"), [(0, 10), (9, 10), (15, 10), (20, 20), (39, 30), (50, 50), (977, 50)]
)
def test_levels_are_the_standard_ones(schema: Schema, level: int, known: int) -> None:
    """A custom level could be any number."""
    kept = _Kept()
    record = logging.LogRecord("", level, "", 0, "left", None, None)
    MinimisingHandler(kept, schema).handle(record)
    assert [record.levelno for record in kept.records] == [known]


def test_the_level_of_the_other_handler_holds(schema: Schema) -> None:
    """It applies as without the wrapper."""
    kept = _Kept()
    kept.setLevel(logging.ERROR)
    with _logger(MinimisingHandler(kept, schema)) as logger:
        logger.warning("left")
        logger.error("left")
    assert [record.levelno for record in kept.records] == [logging.ERROR]


def test_what_admits_nothing_is_not_handed_on(schema: Schema) -> None:
    """It is counted."""
    kept = _Kept()
    handler = MinimisingHandler(kept, schema)
    with _logger(handler) as logger:
        logger.error(CANARY)
        logger.error({"os.type": "linux"})
    assert not kept.records
    assert handler.left_out() == {"message": 2}
    assert handler.tally().rejected["nothing_admitted"] == 2


def test_flush_and_close(schema: Schema) -> None:
    """The other handler is flushed and closed."""
    kept = _Kept()
    handler = MinimisingHandler(kept, schema)
    handler.flush()
    handler.close()
    assert kept.told == ["flush", "close"]
    assert repr(handler) == "<MinimisingHandler>"


def test_a_broken_handler_tells_nothing(schema: Schema, capfd: pytest.CaptureFixture[str]) -> None:
    """``logging`` prints message and arguments of a log record on which a handler fails."""
    broken = logging.StreamHandler(io.StringIO())
    broken.stream.close()
    with _logger(MinimisingHandler(broken, schema)) as logger:
        _shout(logger)
    told = capfd.readouterr().err
    assert "ValueError: I/O operation on closed file" in told
    assert "Arguments" in told
    assert CANARY not in told.partition("Message:")[2]


def test_into_a_collector(schema: Schema, tmp_path: Path) -> None:
    """Each log record is an event of its own."""
    path = tmp_path / "records.ndjson"
    with Collector(schema, f"ndjson:///{path}") as telemetry:
        handler = EmittingHandler(telemetry)
        with _logger(handler) as logger:
            _shout(logger)
            logger.info(CANARY)
    (line,) = map(json.loads, path.read_text().splitlines())
    del line["received"], line["schema"]
    assert line == {"event.name": "joined", "os.type": "linux", "client.address": "::1"}
    assert (handler.tally().received, handler.tally().admitted) == (2, 1)
    assert handler.left_out() == {"arguments": 1, "exception": 1, "stack": 1, "unlisted": 2}
    assert repr(handler) == "<EmittingHandler>"


@for_each("kind", [Minimise, lambda name: MinimisingHandler(_Kept(), name)])
def test_schemas_of_lists_are_refused(kind: Any) -> None:
    """A log event is one record."""
    with pytest.raises(ConfigError, match="E122"):
        kind("participants-qos")
