"""No schema that loads and says that `no-content` holds has a pattern that accepts a common word.

``COLLECTOR_SPELLING`` is how many schemas are tried (`make names` tries 100,000).
"""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import given, settings

from collector.claims.document import CHECKS, SERVING_CHECKS, load_claims
from collector.claims.verification import ClaimFinding, verdict
from collector.schema import Schema, resources
from collector.schema.load import parse_source
from collector.schema.names.scope import common_words, spelling_fields
from collector.schema.reading import read
from collector.schema.source import Source
from collector.testing import schemas
from tests.names.corpora import corpus

_TRIED = int(os.environ.get("COLLECTOR_SPELLING", "500"))
_SHIPPED = [read(resources.shipped() / f"{name}.yaml", name).value for name in resources.names()]
_CLASSES = (
    "[a-z]",
    "[A-Z]",
    "[aeiou]",
    "[bcdfgh]",
    "[0-9a-f]",
    "[0-9]",
    "[ '-]",
    "[et]",
    "[A-Za-z]",
)
_PIECES = ("hel", "lo", "work", "SM-", "-", "v", "w", "th", "Hello", "(he|be)llo", "(th|w)[ie]")
_NO_CONTENT = load_claims()["no-content"]
_SPELLINGS = re.compile(
    "|".join(
        spelled for word in common_words() for spelled in (word, word.capitalize(), word.upper())
    )
)


def _pattern(random: Random) -> str:
    parts = []
    for _ in range(random.randint(1, 4)):
        part = random.choice((*_CLASSES, *_PIECES))
        if random.random() < 0.6:
            low = random.randint(0, 4)
            part = f"({part}){{{low},{low + random.randint(1, 4)}}}"
        parts.append(part)
    return "".join(parts) if random.random() < 0.8 else "|".join(parts)


def mutated(random: Random) -> dict[str, Any]:
    """A shipped document of which some names, paths, kinds and patterns are others."""
    document: dict[str, Any] = copy.deepcopy(random.choice(_SHIPPED))
    document.pop("tests", None)
    document.pop("max_bits", None)
    names = corpus(random.choice(("telling", "innocent")))
    fields = document["fields"]
    for _ in range(random.randint(1, 5)):
        name = random.choice(list(fields))
        field = fields[name]
        match random.randrange(5):
            case 0 | 1:
                for option in ("catalogue", "values", "aliases", "max_length", "parts", "maximum"):
                    field.pop(option, None)
                fields[name] = {**field, "kind": "token", "pattern": _pattern(random)}
                fields[name].pop("source", None)
            case 2:
                fields[random.choice(names).name.lower()] = fields.pop(name)
            case 3:
                field["from"] = [each.name for each in random.sample(names, random.randint(1, 3))]
            case _:
                fields[f"{name}.p{random.randint(1, 4)}"] = {**field, "reason": "One more of it"}
    return document


def _loaded(number: int) -> Iterator[Schema]:
    random = Random(20261126)
    for _ in range(number):
        schema, _faults = parse_source(Source("mutated", value=mutated(random)))
        if schema is not None:
            yield schema


def _accepts_a_word(schema: Schema) -> bool:
    """Try each word with the library's own expressions, which share nothing with ours."""
    patterns = [getattr(field, "pattern", None) for field in schema.fields.values()]
    return any(
        re.fullmatch(pattern, word)
        for pattern in patterns
        if pattern is not None
        for word in _SPELLINGS.pattern.split("|")
    )


def _says_holds(schema: Schema) -> bool:
    """The verdict of `no-content`, all other checks having found nothing."""
    found = dict.fromkeys([*CHECKS, *SERVING_CHECKS], ()) | {
        "policy": tuple(ClaimFinding(name, "E311") for name in spelling_fields(schema))
    }
    return verdict(_NO_CONTENT, found) == "holds"  # type: ignore[arg-type]


def test_no_pattern_that_says_a_word_holds() -> None:
    """Of schemas that are like the shipped ones; some do load, and some of them say words."""
    seen: Counter[bool] = Counter()
    for schema in _loaded(_TRIED):
        accepts = _accepts_a_word(schema)
        seen[accepts] += 1
        assert not (accepts and _says_holds(schema)), schema.fields
    assert seen[False] > _TRIED / 20
    assert seen[True]


@settings(max_examples=max(20, _TRIED // 20))
@given(schemas())
def test_generated_schemas(schema: Schema) -> None:
    """The same of the public strategies."""
    assert not (_accepts_a_word(schema) and _says_holds(schema))
