"""The schema that a request asks for, by its query and its headers."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.refusals import UNKNOWN_SCHEMA, RequestRefused
from collector.ingest.request import HttpRequest

_NAMES = {b"web", b"conferencing"}
_PIECES = st.sampled_from(
    [
        *("schema", "web", "conferencing", "schem", "a", "=", "&", "+", ";", "%", "%73", "%61"),
        *("%3D", "%26", "%77eb", "schema=web", "schema=conferencing", "\x00", "%E9", "é"),
    ]
)
_QUERIES = st.lists(_PIECES, max_size=9).map("".join) | st.text(max_size=30)
_HEADERS = st.lists(st.sampled_from([b"web", b"conferencing", b"canary", b""]), max_size=2)


@given(_QUERIES, _HEADERS)
def test_a_query_is_read_as_others_read_it(query: str, headers: list[bytes]) -> None:
    raw = query.encode("utf-8", "replace")
    request = HttpRequest(
        "POST", "/v1/events", [(b"collector-schema", each) for each in headers], query=raw
    )
    read = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    asked = {value.encode("latin-1") for name, value in read if name == "schema"} | set(headers)
    if not asked:
        assert request.schema(_NAMES) is None
    elif len(asked) == 1 and asked <= _NAMES:
        assert request.schema(_NAMES) == asked.pop().decode()
    else:
        with pytest.raises(RequestRefused) as refused:
            request.schema(_NAMES)
        assert refused.value.refusal == UNKNOWN_SCHEMA
