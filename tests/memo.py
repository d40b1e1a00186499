"""What depends on nothing but its argument, and takes long, is worked out once in a process: what a
text of YAML says, how many letters a list has, and which sinks the installed packages offer.

Tests read the shipped schemas and claims hundreds of times, and each sidecar that is started does,
to make its pages. A text with a fault, and any other text, is parsed each time as it comes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoints, entry_points

from collector import documents
from collector.config import sink_types
from collector.documents import Document
from collector.schema.kinds import token
from collector.schema.names import alphabet_bits

_MOST_TEXTS = 60
_tokens = documents._tokens  # what is done with them is done each time
_known: dict[str, tuple[documents._Token, ...]] = {}
"""The tokens of the texts that were read last."""


def _remembered_tokens(text: str, document: Document) -> Iterator[documents._Token]:
    found, faults = _known.pop(text, None), len(document.faults)
    if found is None:
        found = tuple(_tokens(text, document))
    if len(document.faults) == faults:
        _known[text] = found
        if len(_known) > _MOST_TEXTS:
            del _known[next(iter(_known))]
    return iter(found)


_bits_of_set = cache(alphabet_bits)


def _remembered_bits(entries: Iterable[str]) -> float:
    return _bits_of_set(entries) if isinstance(entries, frozenset) else alphabet_bits(entries)


@cache
def _offered_in(path: tuple[str, ...], group: str) -> EntryPoints:
    return entry_points(group=group)


def _offered(*, group: str) -> EntryPoints:
    """What packages offer; a test that installs one does so in a folder of its own."""
    return _offered_in(tuple(sys.path), group)


def install() -> None:
    """Remember from now on, in this process and in those that it forks."""
    documents._tokens = _remembered_tokens
    token.alphabet_bits = _remembered_bits  # type: ignore[attr-defined]
    sink_types.entry_points = _offered  # type: ignore[assignment, attr-defined]
