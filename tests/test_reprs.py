"""Objects that hold values, tokens, keys or passwords show none of them."""

from __future__ import annotations

from collector.brokers.message import Outgoing
from collector.cli.query import Piece
from collector.contracts import StoredRecords
from collector.filter.redaction import SqlRule
from collector.recording.access import StoredAnswer
from collector.recording.recorder import NewChunk
from collector.server.control_client import Erase
from collector.server.messages import Setup
from collector.sinks.postgres import _parsed
from tests.support.rows import for_each

_DATA = b"canary"


@for_each(
    "holding",
    [
        Erase("user", "canary", "", "", 0.0),
        NewChunk("track", 0, _DATA, "audio"),
        Outgoing("id", _DATA),
        Piece(_DATA, 1),
        SqlRule("", "", "", {}, {"value": "canary"}),
        StoredAnswer(200, _DATA),
        StoredRecords(_DATA, _DATA, _DATA),
        Setup(
            *([_DATA], 1, ["canary"], [], [], 0, False, ["canary"], {}, []),
            *((_DATA, _DATA, None), False, False, 0, 1),
        ),
        _parsed("postgres://user:canary@host/database"),
    ],
)
def test_an_object_shows_no_value(holding: object) -> None:
    assert "canary" not in repr([holding])
