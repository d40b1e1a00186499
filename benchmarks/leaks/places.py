"""Every place of a sidecar that a reader may look at, and the channel that it belongs to.

A place is a column of a database, a file, its time and size, a member of a record or an answer, a
header, a metric, or a log event with its members. All places are enumerated from what a sidecar
really leaves, so a place that a later version adds is seen. A place without a channel fails, and so
does a constant place that differs after different messages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.leaks.sidecar import LAKE, Answer, Sidecar, rows

Places = dict[str, str]
"""A digest of the contents of each place."""

_PLACES = """\
record
  spool:batches.payload store:records.* parquet:* ndjson:* postgres:records.* otlp:records.*

count
  store:records.count parquet:count ndjson:count postgres:records.count
  otlp:records.collector.count

received
  spool:batches.received spool:receipts.minute store:records.received segments:frames.received
  parquet:received ndjson:received postgres:records.received otlp:time

events
  spool:receipts.received spool:receipts.admitted spool:receipts.malformed
  spool:receipts.not_an_object spool:receipts.too_large spool:receipts.too_deep
  spool:receipts.missing_required spool:receipts.nothing_admitted spool:receipts.consent_withheld
  spool:batches.records spool:receipts.not_selected spool:sinks.*_records answer:received
  answer:admitted answer:rejected answer:partialSuccess answer:why answer:protobuf
  metric:collector_events_* metric:collector_spool_records metric:collector_sink_records_*
  status:events.*.received status:events.*.admitted status:events.*.rejected.*

schemas
  spool:receipts.schema spool:batches.layout segments:segments.schema segments:segments.key
  segments:segments.digest segments:segments.routed parquet:schema parquet:metadata ndjson:schema
  postgres:table otlp:scope file:lake/*

sums
  spool:hours.what spool:hours.name spool:hours.reason spool:hours.times spool:sinks.*_bytes
  segments:segments.length segments:frames.at segments:frames.length otlp-header:content-length
  size:* answer:dropped answer:content answer:bytes_in answer:bytes_out header:content-length
  metric:collector_fields_dropped_* metric:collector_content_* metric:collector_received_bytes_*
  metric:collector_admitted_bytes_* metric:collector_spool_bytes metric:collector_spool_used_bytes
  status:events.*.content.* status:events.*.dropped.*

requests
  spool:*.sequence spool:*.receipt spool:sinks.*_batches spool:sinks.since
  spool:request_keys.number spool:entries.facts spool:gaps.after spool:gaps.upto
  store:_delivered.number segments:segments.number segments:frames.segment
  segments:delivered.number postgres:_delivered.number postgres:transactions otlp:requests
  metric:collector_spool_batches metric:collector_messages_* metric:collector_sink_absent_batches
  status:spool.* status:sinks.* status:absent.*

durations
  answer:error answer:code answer:message metric:collector_request_duration_seconds*

refusals
  metric:collector_requests_refused_* log:refused.*

purposes
  spool:batches.granted segments:segments.is_limited

clock
  spool:entries.minute spool:hours.hour spool:key_days.day spool:request_keys.day
  segments:segments.hour

moment
  segments:segments.opened segments:segments.is_closed segments:segments.revision time:*
  header:date metric:collector_spool_oldest_age_seconds metric:collector_sink_last_success_*
  metric:collector_spool_lag_seconds metric:collector_sink_full_in_seconds metric:process_*
  metric:python_* metric:*_created metric:collector_config_last_reload_* log:*.time
  log:starting.time log:*.timestamp

random
  spool:*.id spool:*.salt spool:*.seal spool:receipts.commitment spool:*.previous spool:*.hash
  spool:*.receipt_hash spool:*.signature spool:entries.key spool:starts.after
  spool:key_days.secret spool:request_keys.hash spool:request_keys.body spool:request_keys.counts
  store:_delivered.id segments:delivered.id postgres:_delivered.id otlp:uid file:data/ledger.key
  log:started.*

constant
  spool:about.* spool:layouts.* spool:columns.* spool:sinks.sink spool:gaps.sink spool:aside.*
  spool:starts.* spool:tip.one spool:entries.kind spool:last_entry.one spool:documents.*
  spool:damaged.* store:_retention.* store:_remains.* segments:types.* segments:retentions.*
  segments:places.* segments:segments.place postgres:_* otlp:resource otlp-header:* file:data/*.db
  file:data/*.db-wal file:data/*.db-shm file:data/collector.lock file:records/records.ndjson
  file:records/*.state file:data/sinks/* file:data/control.sock header:content-type
  header:connection header:server metric:collector_spool_limit_bytes
  metric:collector_spool_writable metric:collector_spool_blocking metric:collector_build_info
  metric:collector_spool_errors_total metric:collector_spool_damaged_files
  metric:collector_sink_set_aside_records metric:collector_sink_limit_bytes
  metric:collector_sink_skipping metric:collector_worker* metric:collector_config_reloads_total
  status:schemas log:starting.* log:stopping.* log:stopped.*

machine
  postgres:_unswept.* otlp-header:host metric:collector_tls_* metric:collector_sink_failures_total
  status:checks.* status:workers.* status:ready ready:line log:unconfined.* log:worker_replaced.*
  log:unsigned.* log:modes_* log:sink_failing.* log:sink_recovered.* log:sink_skipping*
"""
PLACES: dict[str, tuple[str, ...]] = {
    name: tuple(patterns) for name, *patterns in map(str.split, _PLACES.split("\n\n"))
}
"""The places of each channel, as patterns; the most exact match counts."""
_VARYING = frozenset(
    "spool:documents.digest spool:documents.text otlp-header:host segments:places.digest"
    " segments:segments.place".split()
)
"""Constant places that contain the paths of a sidecar in its configuration."""
_METRIC = re.compile(r"^([a-z_]+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


def channel_of(place: str) -> str | None:
    """Return the channel that names a place. A longer pattern is more exact."""
    fitting = [
        (len(pattern.replace("*", "")), channel)
        for channel, patterns in PLACES.items()
        for pattern in patterns
        if fnmatchcase(place, pattern)
    ]
    return max(fitting)[1] if fitting else None


def observed(sidecar: Sidecar) -> Places:
    """Return every non-empty place of a sidecar, with a digest of its contents."""
    found: dict[str, list[str]] = defaultdict(list)
    for place, value in _values(sidecar):
        found[place].append(repr(value))
    return {
        place: hashlib.sha256("\n".join(sorted(each)).encode()).hexdigest()
        for place, each in found.items()
    }


def faults(first: Places, second: Places) -> Iterator[str]:
    """Yield what is wrong with the places of two sidecars that got different messages."""
    for place in sorted(first | second):
        channel = channel_of(place)
        if channel is None:
            yield f"{place} belongs to no channel"
        elif channel == "constant" and _differ(place, first, second):
            yield f"{place} is called constant and depends on the messages"


def _differ(place: str, first: Places, second: Places) -> bool:
    in_both = place in first and place in second
    return in_both and place not in _VARYING and first[place] != second[place]


def _values(sidecar: Sidecar) -> Iterator[tuple[str, Any]]:
    yield from _database("spool", sidecar.spool)
    yield from _database("store", sidecar.store)
    yield from _elsewhere(sidecar)
    yield from _flat("status", sidecar.status())
    yield from (
        ("ready:line", shown) for shown in sidecar.server.page("/readyz?verbose").splitlines()
    )
    for path in sidecar.files():
        name = path.relative_to(sidecar.directory)
        yield f"file:{name}", ""
        with suppress(FileNotFoundError):  # for example, a lake's segment that is a file by now
            about = path.stat()
            yield from ((f"time:{name}", about.st_mtime_ns), (f"size:{name}", about.st_size))
    for line in sidecar.lines():
        yield from ((f"ndjson:{name}", value) for name, value in json.loads(line).items())
    for name, labels, value in _METRIC.findall(sidecar.server.page("/metrics")):
        yield f"metric:{name}", (labels, value)
    yield from answer_places(sidecar.answers)
    for said in sidecar.log:
        members = _members(said)
        event = members.get("event", "none")
        yield from ((f"log:{event}.{name}", each) for name, each in members.items())


def answer_places(answers: set[Answer]) -> Iterator[tuple[str, Any]]:
    """Yield the places of answers. Answers with the same body in the same second count as one,
    because their number is chance."""
    told = {header for headers, _ in answers for header in headers}
    yield from ((f"header:{name}", each) for name, each in told)
    for _, body in answers:
        answer = json.loads(body) if body.startswith(b"{") else {"protobuf": body}
        yield from ((f"answer:{name}", each) for name, each in answer.items())


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{place}.{name}" if ":" in place else f"{place}:{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(place, inner)
    else:
        yield place, value


def _elsewhere(sidecar: Sidecar) -> Iterator[tuple[str, Any]]:
    """Yield the places in the locations that a sidecar delivers to."""
    locations = sidecar.locations
    segments = sidecar.directory / "data" / "sinks" / LAKE / "segments.db"
    if segments.exists():
        yield from _database("segments", segments)
    if locations.lake is not None:
        for path in locations.lake.rglob("*.parquet"):
            yield from _parquet(path)
    resources = set()
    for request in locations.exported():
        yield "otlp:requests", 1
        for resource in request.resource_logs:
            resources.add(str(resource.resource))
            for scope in resource.scope_logs:
                yield "otlp:scope", str(scope.scope)
                for record in scope.log_records:
                    yield from _log_record(record)
    yield from (("otlp:resource", each) for each in resources)
    sent = (pair for headers, _ in locations.requests for pair in headers.items())
    yield from ((f"otlp-header:{name}", text) for name, text in {*sent})  # counted above
    yield from _tables(sidecar)


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    with parquet.ParquetFile(path) as file:
        yield "parquet:metadata", sorted((file.metadata.metadata or {}).items())
        for name, column in file.read().to_pydict().items():
            yield from ((f"parquet:{name}", value) for value in column)


def _log_record(record: Any) -> Iterator[tuple[str, Any]]:
    yield from (("otlp:time", record.time_unix_nano), ("otlp:time", record.observed_time_unix_nano))
    for attribute in record.attributes:
        is_uid = attribute.key == "log.record.uid"
        yield "otlp:uid" if is_uid else f"otlp:records.{attribute.key}", str(attribute.value)
    for field, _ in record.ListFields():
        if field.name not in ("time_unix_nano", "observed_time_unix_nano", "attributes"):
            yield f"otlp:log.{field.name}", ""


def _tables(sidecar: Sidecar) -> Iterator[tuple[str, Any]]:
    """Yield the places in PostgreSQL. A partition has its day in its name, and a row has a
    transaction."""
    ask = sidecar.locations.ask
    listed = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = "
    for table, column in ask(f"{listed}'collector'"):
        yield "postgres:table", table
        shown = table if table.startswith("_") else "records"
        for (value,) in ask(f'SELECT "{column}" FROM collector."{table}"'):
            yield f"postgres:{shown}.{column}", value
        for (value,) in ask(f'SELECT xmin::text FROM ONLY collector."{table}"'):
            yield "postgres:transactions", value


def _members(line: str) -> Mapping[str, Any]:
    """Return the members of a log line; a line that is not Collector's has its text."""
    try:
        members = json.loads(line)
    except ValueError:
        members = None
    return members if isinstance(members, dict) else {"text": line}


def _database(name: str, file: Path) -> Iterator[tuple[str, Any]]:
    for (table,) in rows(file, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
        columns = [row[1] for row in rows(file, f'PRAGMA table_info("{table}")')]
        has_records = name == "store" and not table.startswith("_")
        shown = "records" if has_records else table
        for column in columns:
            yield f"{name}:{shown}.{column}", None
        for row in rows(file, f'SELECT * FROM "{table}"'):
            for column, value in zip(columns, row, strict=True):
                yield f"{name}:{shown}.{column}", value
