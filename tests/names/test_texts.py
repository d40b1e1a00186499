"""Schemas at random: no text is held under a telling word, and letters stay within their budget.

``COLLECTOR_SPELLING`` is how many schemas are tried (`make nightly` tries 100,000). The judgement
here shares nothing with the rules: values are enumerated, and words are looked for in the text.
"""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector.schema import Schema
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.token import TokenField
from collector.schema.names import LETTER_BITS, LETTER_BITS_SCHEMA
from collector.schema.names.scope import POSITIVE
from tests.names.corpora import corpus, parsed
from tests.strategies import draw_options

_TRIED = int(os.environ.get("COLLECTOR_SPELLING", "200"))
_FEW = 64
_HEX = re.compile(r"\[0-9a-[a-f]\]")
_TABLES = (Path(__file__).parents[2] / "collector/schema/names/words.txt").read_text()
_WORDS = {
    head: body.split() for head, body in re.findall(r"^\[(\w+)\]\n([^\[]*)", _TABLES, re.MULTILINE)
}
_TELLING = {
    word: head
    for head, listed in _WORDS.items()
    if head not in ("thing", "property")
    for word in listed
}
_KNOWN = {*_WORDS["thing"], *_WORDS["property"]}
_PLAIN = [*_KNOWN, "blurb", "whatever", "nachricht", "体温", "чат"]
_CLASSES = ("[a-z]", "[A-Z]", "[aeiou]", "[0-9a-f]", "[0-9]", "[ '-]", "[et]", "[A-Za-z]", "[abc]")
_PIECES = ("hel", "lo", "SM-", "-", "v", "(he|be)llo", "(th|w)[ie]", "(a0|b1|c2|d3|e4|f5|g6|h7|i8)")


def _pattern(random: Random) -> str:
    parts = []
    for _ in range(random.randint(1, 4)):
        part = random.choice((*_CLASSES, *_PIECES))
        if random.random() < 0.5:
            low = random.randint(0, 3)
            part = f"({part}){{{low},{low + random.randint(1, 3)}}}"
        parts.append(part)
    return "".join(parts) if random.random() < 0.8 else "|".join(parts)


def _options(random: Random) -> dict[str, Any]:
    kind = random.choice([*KINDS, *4 * ["token"], *2 * ["enum"]])
    if kind == "token" and random.random() < 0.9:
        return {"kind": kind, "pattern": _pattern(random)}
    if kind == "enum":
        letters = random.choice(
            [string.ascii_lowercase, [f"v{n}" for n in range(random.randint(2, 90))], "ab"]
        )
        return {"kind": kind, "values": [random.choice(("", "-")) + each for each in letters]}
    return {"kind": kind, **draw_options(kind, random)}


def _name(random: Random) -> str:
    """A path of plain and telling words, in any of many spellings."""
    if random.random() < 0.15:
        return random.choice([*POSITIVE, *(each.name for each in corpus("telling")[::7])])
    found = random.choices(_PLAIN, k=random.randint(1, 4))
    if random.random() < 0.4:
        found.insert(random.randint(0, len(found)), random.choice([*_TELLING]))
    text = ""
    for word in found:
        spelled = random.choice((word, word, word.title(), word.upper()))
        spelled += random.choice(("", "", "", "[0]", "1"))
        text += random.choice((".", "_", "-", ".")) * bool(text) + spelled
    return ".".join(part if part.isascii() else f'"{part}"' for part in text.split("."))


def _drawn(random: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    fields: dict[str, Any] = {}
    for _ in range(random.randint(1, 3)):
        name = random.choice([*POSITIVE, "browser.codec", "os.codec", "gpu.driver", _name(random)])
        name = re.sub("[^a-z0-9_.]", "_", name.lower()).strip("_.0123456789") or "codec"
        paths = {_name(random) for _ in range(random.randint(0, 2))}
        fields[name] = {**_options(random), **({"from": sorted(paths)} if paths else {})}
    is_list = random.random() < 0.2
    return fields, {"records": [f"{_name(random).split('[')[0]}.list"]} if is_list else {}


def _loaded() -> Iterator[Schema]:
    random = Random(20261130)
    for _ in range(_TRIED):
        fields, head = _drawn(random)
        schema, _ = parsed(fields, **head)
        if schema is not None:
            yield schema


def _values(field: FieldBase) -> list[str]:
    """Return some values of a text, more than an author lists; none of a field of another form."""
    if isinstance(field, EnumField):
        return [*field.values]
    if isinstance(field, TokenField):
        if field.language is None:
            return []
        return [*islice(field.language.texts(), 5000)]
    return []


def _is_text(field: FieldBase) -> bool:
    """By the values alone: many of them, or free letters."""
    return len(set(_values(field))) > _FEW or _can_spell(field)


def _can_spell(field: FieldBase) -> bool:
    """By the values alone: many texts of letters, digits of hexadecimal numbers apart."""
    if _HEX.search(str(getattr(field, "pattern", ""))):
        return False
    letters = {"".join(filter(str.isalpha, each)) for each in _values(field)}
    return len(letters) > _FEW or len({each for each in letters if 1 <= len(each) <= 2}) > 8


def _found(path: str) -> list[str]:
    plain = re.sub("[^a-z]+", " ", path.replace("体", " ").lower()).split()
    return [word for word in plain if word in _TELLING]


def _is_listed(name: str, field: FieldBase, path: str) -> bool:
    listed = POSITIVE.get(name)
    if listed is None or field.kind not in listed.kinds:
        return False
    plain = re.sub("[^a-z0-9]+", "", path.lower())
    return plain in {re.sub("[^a-z0-9]+", "", each) for each in (name, *listed.paths)}


def _ways(schema: Schema, path: str) -> Iterator[str]:
    yield path
    yield from (f"{way}.{path}" for way in schema.ways)


@pytest.mark.timeout(600)
def test_no_schema_holds_text_under_a_telling_word() -> None:
    seen: Counter[str] = Counter()
    for schema in _loaded():
        for name, field in schema.fields.items():
            for path in field.paths(name):
                if _is_listed(name, field, path):
                    seen["listed"] += 1
                    continue
                for whole in _ways(schema, path):
                    telling = _found(whole)
                    if _is_text(field):
                        seen["texts"] += 1
                        assert not telling, (name, whole, field)
                    if isinstance(field, PseudonymField):
                        seen["pseudonyms"] += 1
                        assert {_TELLING[each] for each in telling} <= {"identifier"}, whole
                    if _can_spell(field):
                        seen["spell"] += 1
                        words = re.findall(r"[^\W\d_]+", whole.lower())
                        assert set(words) <= _KNOWN | {"list"}, whole
                    seen["other"] += bool(telling)
    assert seen["texts"] > _TRIED / 100, seen
    assert seen["spell"] > _TRIED / 300, seen
    assert seen["pseudonyms"] > _TRIED / 100, seen
    assert seen["other"] > _TRIED / 20, seen


@pytest.mark.timeout(600)
def test_letters_stay_within_their_budget() -> None:
    random = Random(20261130)
    names = ["browser.codec", "os.codec", "gpu.driver", "cpu.build", "modem.chip", "hw.model"]
    seen: Counter[bool] = Counter()
    for _ in range(max(60, _TRIED // 10)):
        patterns = {name: _pattern(random) for name in random.sample(names, random.randint(1, 6))}
        schema, found = parsed({n: {"kind": "token", "pattern": p} for n, p in patterns.items()})
        seen[schema is not None] += 1
        if schema is None:
            assert {each.code for each in found} <= {"E311", "E312", "E116"}
            continue
        total = 1
        for field in schema.fields.values():
            spelled = {"".join(filter(str.isalpha, each)) for each in _values(field)}
            if not _HEX.search(str(getattr(field, "pattern", ""))):
                assert len(spelled) <= 2**LETTER_BITS
                total *= len(spelled)
        assert total <= 2**LETTER_BITS_SCHEMA
    assert seen[True] > 20
    assert seen[False] > 20


def test_a_kind_that_is_no_text_has_few_letters() -> None:
    random = Random(7)
    for kind in KINDS:
        for _ in range(20):
            options = draw_options(kind, random)
            schema, found = parsed({"codec.build": {"kind": kind, **options}})
            assert schema is not None, found
            (field,) = schema.fields.values()
            if kind in ("token", "enum", "pseudonym", "ip") or field.is_text():
                continue
            assert not field.can_spell()
            assert field.letter_bits() == 0
            allowed = "TZ" if kind == "time" else ""
            written = str(field.value_schema().get("pattern", ""))
            assert set(filter(str.isalpha, written)) <= {*allowed, "d"}, written


def test_all_small_patterns() -> None:
    """Every text of a few parts: what spells by its texts is found to spell."""
    parts = ("[a-z]", "[ab]", "[0-9]", "x", "(a|b1)", "(c?|d)", "-")
    for chosen in (*product(parts, repeat=2), *product(parts, repeat=3)):
        schema, _ = parsed({"os.codec": {"kind": "token", "pattern": "".join(chosen)}})
        if schema is not None:
            field = schema.fields["os.codec"]
            assert field.can_spell() or not _can_spell(field), chosen
            assert field.is_text() or not _is_text(field), chosen
