"""``payloads``: whole payloads around the fields of a schema, and bytes that are none."""

from __future__ import annotations

from datetime import datetime

from hypothesis import strategies as st

from collector.schema import Schema
from collector.testing._events import cached_per_schema
from collector.testing._texts import BOM, Kinds, Texts, damaged_text, written
from collector.testing._values import clock, weighted


def payloads(schema: Schema, *, now: datetime | None = None) -> Texts:
    """Whole payloads: a JSON object or array, whatever else is JSON, and whatever is not.

    They hold what only text can say: repeated and escaped keys, escapes, lone surrogates, numbers
    beyond every type, NaN, byte order marks, invalid UTF-8, cut-off texts, several texts in one,
    nesting of more than 1,000 levels. No text nests 101 to 1,000 levels, where it is left to the
    parser whether it is too deep. ``now`` is the present for fields of kind ``time``.
    """
    return _payloads(schema, now or clock())


@cached_per_schema
def _payloads(schema: Schema, now: datetime) -> Texts:
    kinds = Kinds(schema, now)
    damaged = damaged_text(written(weighted((1, kinds.shallow), (1, kinds.several(kinds.shallow)))))
    whole = written(kinds.event)
    several = written(kinds.several(kinds.event))
    other = weighted((2, written(kinds.other)), (1, st.binary(max_size=30)))
    text = weighted((6, whole), (3, several), (2, damaged), (1, other))
    return st.builds(bytes.__add__, weighted((9, st.just(b"")), (1, st.just(BOM))), text)
