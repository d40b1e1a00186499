"""The mutated code, room by room, and the tests that must find each mutant."""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """``files`` and ``tests`` are paths below the project's root. ``files`` may be globs. If a file
    names a function or class after ``::``, only that is mutated. ``tests`` may contain options of
    pytest."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


_OF_FILTER = (
    "tests/filter",
    "tests/brokers/test_message.py",
    "tests/cli/test_explain.py",
    "tests/cli/test_explain_live.py",
    "tests/cli/test_hints.py",
    "tests/cli/test_schema.py",
    "tests/schema/test_reference.py",
    "tests/server/test_live_explain.py",
    "tests/sinks/test_rules.py",
    "--ignore=tests/filter/test_linear.py",  # on a busy machine it fails by itself
)

ROOMS: dict[str, Room] = {
    "grant": Room(
        ("collector/recording/grant.py",),
        ("tests/recording/test_grant.py", "tests/recording/test_grant_steps.py"),
    ),
    "consent": Room(
        ("collector/consent.py", "collector/filter/event_consent.py"),
        ("tests/test_consent.py", "tests/filter/test_event_consent.py"),
    ),
    "policy": Room(
        ("collector/schema/policy.py",),
        ("tests/schema/test_policy.py", "tests/schema/test_load.py", "tests/schema/test_lint.py"),
    ),
    "flow": Room(("collector/routing/__init__.py",), ("tests/routing", "tests/test_consent.py")),
    "rules": Room(
        (
            "collector/filter/redaction.py",
            "collector/arrow/mark.py",
            "collector/arrow/tables.py",
            "collector/contracts.py::Part",
        ),
        (
            "tests/filter/test_arrow_tables.py",
            "tests/filter/test_redaction.py",
            "tests/filter/test_subject.py",
            "tests/sinks/test_inventory.py",
            "tests/sinks/test_parquet_bounds.py::test_a_large_table_is_divided",
            "tests/sinks/test_parquet_bounds.py::test_any_version_of_pyarrow_writes_the_same",
            "tests/sinks/test_pruning.py",
            "tests/sinks/test_rules.py",
            "tests/test_reprs.py",
        ),
    ),
    "limits": Room(
        ("collector/ingest/limits.py", "collector/ingest/decompression.py"),
        (
            "tests/ingest/test_limits.py",
            "tests/ingest/test_decompression.py",
            "tests/ingest/test_protocol.py",
            "tests/ingest/test_request_body.py",
            "tests/ingest/test_without_zstd.py",
        ),
    ),
    "plan": Room(
        (
            "collector/filter/arrow.py",
            "collector/filter/columns.py",
            "collector/filter/decode/mapping.py",
            "collector/filter/derive.py",
            "collector/filter/members.py",
            "collector/filter/otlp/attributes.py",
            "collector/filter/otlp/body.py",
            "collector/filter/otlp/items.py",
            "collector/filter/plan.py",
            "collector/filter/reader.py",
            "collector/filter/router.py",
            "collector/filter/shape.py",
            "collector/filter/stored.py",
        ),
        _OF_FILTER,
    ),
    "explain": Room(
        (
            "collector/filter/explain.py",
            "collector/filter/frames.py",
            "collector/filter/live_sample.py",
            "collector/filter/sample_counts.py",
            "collector/filter/schema_test.py",
        ),
        (
            "tests/cli/test_explain.py",
            "tests/filter/test_explain.py",
            "tests/filter/test_frames.py",
            "tests/filter/test_live_sample.py",
            "tests/filter/test_sample_counts.py",
            "tests/filter/test_schema_test.py",
            "tests/server/test_live_explain.py",
        ),
    ),
    "text": Room(
        ("collector/filter/decode/json.py", "collector/filter/text.py"),
        (
            "tests/filter/test_fast_ways.py",
            "tests/filter/test_foreign.py",
            "tests/filter/test_json_suite.py",
            "tests/filter/test_lines.py",
            "tests/filter/test_lists.py",
            "tests/filter/test_otlp_bounds.py",
            "tests/filter/test_record_documents.py",
            "tests/filter/test_records.py",
            "tests/filter/test_text.py",
        ),
    ),
    "otlp": Room(
        (
            "collector/filter/otlp/__init__.py",
            "collector/filter/otlp/json_body.py",
            "collector/filter/otlp/protobuf_body.py",
            "collector/filter/otlp/wire.py",
        ),
        (
            "tests/filter/test_event_consent.py",
            "tests/filter/test_otlp.py",
            "tests/filter/test_otlp_bounds.py",
            "tests/filter/test_otlp_items.py",
            "tests/filter/test_otlp_limits.py",
            "tests/filter/test_sender_info.py",
            "tests/filter/test_wire.py",
        ),
    ),
    "filter": Room(("collector/filter/**/*.py",), _OF_FILTER),
}
"""From the smallest room to the largest. A file in two rooms is mutated in the first one only."""
