"""The approved copy of a schema: each reviewed field, as it was at the review.

The copy of ``calls.yaml`` is ``calls.reviewed.yaml`` (``resources.approved_copy``). An entry has
the options of a field, and everything else that decides what the field holds: the paths of records
and the user agent, the uses of its purposes, whether a person may refuse it, and the public
sentence. ``compare`` judges today's schema against it, so one table says what widens: a field is
approved if nothing about it widens. The name in an entry is text in a file and authenticates
nobody, so everything that shows it says "attributed to".

In doubt, nothing is approved: a copy with a fault, a link, or an unreadable copy approves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, ValidationError
from pydantic import Field as Option

from collector.documents import Document, Loc, Part, fault, is_visible, read_bytes, validate
from collector.errors import Fault, SchemaError
from collector.schema.diff import SchemaChange, compare
from collector.schema.kinds import FieldBase
from collector.schema.kinds.base import utc_now
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Records, Schema
from collector.schema.names.scope import scope
from collector.schema.scalars import (
    Day,
    DocumentName,
    FieldName,
    Name,
    Paths,
    Text,
    condition_of,
    path_of,
)
from collector.schema.scalars import (
    Path as EventPath,
)
from collector.schema.starter import flow
from collector.schema.stored_document import NO_KEY, noted_field

MAX_BYTES = 1 << 20
"""The most bytes of a copy: it lists the entries of catalogues."""
_MOST_TEXT = 200
_MOST_LINK = 500
_PLACEHOLDER = {"reason": "as it was approved"}
_LINK = re.compile(r"https?://[!-~]+").fullmatch


# -- reading ---------------------------------------------------------------------------------------


def _line(text: str) -> str:
    if not is_visible(text) or len(text) > _MOST_TEXT:
        raise fault("E107", f"write one line of at most {_MOST_TEXT} characters")
    return text


def _link(text: str) -> str:
    if len(text) > _MOST_LINK or not _LINK(text):
        raise fault("E107", "write a link to the discussion, https://…, without blanks")
    return text


class Approval(Part):
    """Who approved a field, and what besides its options decides what it holds.

    ``uses`` are those of its purposes, and ``sentence`` is the public one; an entry that omits one
    of these approves any. ``until`` is the last day of the approval. ``answers`` has the answer to
    each question; they decide nothing.
    """

    by: Annotated[Text, AfterValidator(_line)]
    date: Day
    see: Annotated[str, AfterValidator(_link)]
    until: Day | None = None
    optional: bool = False
    consent: EventPath | None = None
    records: Records | None = None
    user_agent: Paths = ()
    uses: Mapping[Name, str] = {}
    sentence: Text | None = None
    answers: Mapping[str, str] = {}


def is_form(key: str, text: str) -> bool:
    """Return whether a text has the form of ``by``, ``see`` or ``until``."""
    whole = {"by": "A", "date": "2000-01-01", "see": "https://example.org", key: text}
    try:
        Approval.model_validate_json(json.dumps(whole), strict=True)
    except ValidationError:
        return False
    return True


class _Head(Part):
    """The document without its entries, which are checked one by one."""

    name: Annotated[DocumentName | None, Option(alias="schema")] = None
    fields: dict[FieldName, Any]


@dataclass(frozen=True)
class ApprovedCopy:
    """An approved copy from a file. ``digest`` is the SHA-256 of its bytes, in hex, and ``None``
    without a readable regular file. ``entries`` are all approvals, or none if there is any fault;
    ``written`` has each entry as in the file.
    """

    path: Path
    digest: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict)
    schema: str | None = None
    entries: Mapping[str, tuple[Approval, FieldBase]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    @property
    def state(self) -> str:
        """Return a mark of its version: its digest, ``none`` without a file, or ``unreadable``."""
        return self.digest or ("unreadable" if self.faults else "none")


def read_copy(path: Path) -> ApprovedCopy:
    """Read an approved copy. Raises nothing; ``faults`` has its faults."""
    source, data = Document(str(path)), None
    try:
        data = _read(path)
    except FileNotFoundError:
        return ApprovedCopy(path)
    except (OSError, ValueError):  # a NUL in the path
        message = "the approved copy cannot be read; it must be a regular file, not a link"
        source.report((), "E101", message)
    if data is None:
        return ApprovedCopy(path, faults=tuple(source.faults))
    return _of_bytes(path, data)


def _of_bytes(path: Path, data: bytes) -> ApprovedCopy:
    source = read_bytes(data, Document(str(path)), most=MAX_BYTES)
    is_read = source.value is not None or not source.faults
    head, entries = _parsed(source) if is_read else (None, {})
    found = tuple(source.all_faults())
    return ApprovedCopy(
        path,
        hashlib.sha256(data).hexdigest(),
        {} if found else source.value["fields"],
        None if head is None else head.name,
        {} if found else entries,
        found,
    )


def _read(path: Path) -> bytes:
    """Read a regular file, not a link. Raises ``OSError``."""
    if path.is_symlink():
        raise OSError
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError
        return file.read(MAX_BYTES + 1)


def _parsed(source: Document) -> tuple[_Head | None, dict[str, tuple[Approval, FieldBase]]]:
    if not isinstance(source.value, dict):
        source.report((), "E107", "an approved copy must be a mapping with the key `fields`")
        return None, {}
    head = validate(_Head, source.value, (), source)
    listed = source.value.get("fields")
    entries = {}
    for name, value in listed.items() if isinstance(listed, dict) else ():
        found = _entry(value, ("fields", name), source)
        if found is not None:
            entries[name] = found
    return head, entries


_OWN = frozenset(Approval.model_fields)
_NOT_APPROVED = ("reason", "also")
"""Options that an entry leaves out: they decide nothing about what the field holds."""


def _entry(value: Any, loc: Loc, source: Document) -> tuple[Approval, FieldBase] | None:
    if not isinstance(value, dict):
        source.report(loc, "E107", "an approval must be a mapping, such as `{kind: boolean, …}`")
        return None
    own = {key: part for key, part in value.items() if key in _OWN}
    approval = validate(Approval, own, loc, source)
    options = {key: part for key, part in value.items() if key not in _OWN}
    for key in _NOT_APPROVED:
        if key in options:
            source.report((*loc, key), "E105", "an approval has no such key; delete it")
    found = noted_field(options | _PLACEHOLDER, loc, source)
    return None if approval is None or found is None else (approval, found)


# -- judging ---------------------------------------------------------------------------------------


class FieldReview(NamedTuple):
    """A field outside the closed list. It is approved as it is now, unless ``why`` says why not.

    ``changes`` are the widening changes since its approval; empty without an approval.
    """

    name: str
    sentence: str | None
    approval: Approval | None
    why: str = ""
    changes: tuple[SchemaChange, ...] = ()

    @property
    def reason(self) -> str:
        """Return why it is not approved, as a sentence."""
        if self.approval is None:
            return f"Nobody has approved `{self.name}`: {self.why.partition(': ')[2]}."
        if self.changes:
            return f"`{self.name}` is {self.why}."
        return f"The approval of `{self.name}` ended after {self.approval.until}."

    @property
    def is_approved(self) -> bool:
        """Return whether it is approved as it is now, or in a wider form."""
        return not self.why


class Addition(NamedTuple):
    """Approved fields that share a sentence, and to whom and when the approval is attributed."""

    fields: tuple[str, ...]
    sentence: str | None
    by: str
    date: date

    @property
    def attributed(self) -> str:
        """Say to whom the approval is attributed. Nothing authenticates the name."""
        return f"attributed to {self.by}, {self.date.isoformat()}"

    def __str__(self) -> str:
        said = f"{self.sentence} " if self.sentence else ""
        return f"{said}({', '.join(self.fields)}; {self.attributed})"


@dataclass(frozen=True)
class Review:
    """The fields of a schema that the public sentences do not cover, in its order."""

    schema: str
    copy: ApprovedCopy
    fields: tuple[FieldReview, ...]

    @property
    def unapproved(self) -> tuple[FieldReview, ...]:
        """Return the fields that nobody has approved as they are now."""
        return tuple(each for each in self.fields if not each.is_approved)

    @property
    def additions(self) -> tuple[Addition, ...]:
        """Return what else is collected and approved, by sentence."""
        found: dict[tuple[str | None, str, date], list[str]] = {}
        for each in self.fields:
            if each.is_approved and each.approval is not None:
                key = each.sentence, each.approval.by, each.approval.date
                found.setdefault(key, []).append(each.name)
        return tuple(Addition(tuple(names), *key) for key, names in found.items())


def review(schema: Schema, copy: ApprovedCopy, today: date | None = None) -> Review:
    """Compare every field outside the closed list with its approval, by the rules of ``compare``.
    ``today`` is the day in UTC."""
    day = utc_now().date() if today is None else today
    outside = scope(schema).outside
    reviewed = (_reviewed(schema, name, text, copy, day) for name, text in outside.items())
    return Review(schema.name, copy, tuple(reviewed))


def _reviewed(
    schema: Schema, name: str, sentence: str | None, copy: ApprovedCopy, today: date
) -> FieldReview:
    if copy.faults:
        where = f"the approved copy has faults ({copy.faults[0].code})"
        return FieldReview(name, sentence, None, f"not approved: {where}")
    if copy.schema not in (None, schema.name):
        return FieldReview(
            name, sentence, None, "not approved: the approved copy belongs to another schema"
        )
    if name not in copy.entries:
        return FieldReview(name, sentence, None, "not approved: it is new")
    approval, was = copy.entries[name]
    widened = tuple(_widened(schema, name, approval, was))
    why = ""
    if widened:
        words = dict.fromkeys(": ".join(filter(None, (c.option, c.what))) for c in widened)
        why = f"wider than approved: {', '.join(words)}"
    elif approval.until is not None and approval.until < today:
        why = f"no longer approved: the approval ended after {approval.until.isoformat()}"
    return FieldReview(name, sentence, approval, why, widened)


def _widened(
    schema: Schema, name: str, approval: Approval, was: FieldBase
) -> Iterator[SchemaChange]:
    """Yield what widens from an approval to today's field: compare a schema of only this field, as
    it was, with one as it is."""
    now = schema.fields[name]
    before = was.model_copy(update={"reason": now.reason, "also": now.also})
    if isinstance(now, PseudonymField) and isinstance(before, PseudonymField):
        # A schema from the ledger leaves out the reference to the key.
        before = before.model_copy(update={"key": now.key if now.key == NO_KEY else before.key})
    purposes = {each: schema.purposes[each] for each in now.purposes}
    old_purposes = {
        each: purpose.model_copy(
            update={
                "use": approval.uses.get(each, purpose.use),
                "optional": approval.optional or purpose.optional,
            }
        )
        for each, purpose in purposes.items()
    }
    said = {"also": approval.sentence} if approval.sentence is not None else {}
    says = schema.also_collected.get(now.also or "")
    new = schema.model_copy(
        update={
            "tests": [],
            "fields": {name: now},
            "purposes": purposes,
            "also_collected": {"also": says} if said and says is not None else {},
        }
    )
    old = new.model_copy(
        update={
            "fields": {name: before},
            "purposes": old_purposes,
            "also_collected": said,
            "records": approval.records,
            "user_agent": approval.user_agent,
            "consent": approval.consent if approval.optional else schema.consent,
        }
    )
    looks_further = not _compared(new, name) <= _compared(old, name)
    for change in compare(old, new).changes:
        if change.verdict == "widening" or (looks_further and change.what in _CONDITIONS):
            yield change


_CONDITIONS = ("only under a condition", "only selected records")
"""Changes that let less through, but reveal the value of a member that was not compared before."""


def _compared(schema: Schema, name: str) -> set[tuple[str, str]]:
    """Return the members that conditions compare, each with the path beside it."""
    sources = (*schema.fields[name].places(name), *(schema.records or ()))
    return {(path_of(each), member) for each in sources for member, _ in condition_of(each)}


# -- writing ---------------------------------------------------------------------------------------


def approved_entry(schema: Schema, name: str, stated: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry that approves a field as it is now. ``stated`` has ``by``, ``date``, ``see``
    and maybe ``until``."""
    of = schema.fields[name]
    dump = of.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    common = [info.alias or key for key, info in FieldBase.model_fields.items()]
    own = [key for key in dump if key not in common]
    if isinstance(of, TokenField) and of.catalogue is not None:
        dump["entries"] = "".join(f"{entry}\n" for entry in sorted(of.entries))
        own.append("entries")
    order = ["kind", *own, *(key for key in common if key not in ("kind", *_NOT_APPROVED))]
    entry = {key: dump[key] for key in order if key in dump}
    entry["uses"] = {each: schema.purposes[each].use for each in of.purposes}
    head = schema.model_dump(mode="json", by_alias=True, include={"records", "user_agent"})
    sentence = schema.also_collected.get(of.also or "")
    context = {
        "optional": name in schema.refusable,
        "consent": schema.consent if name in schema.refusable else None,
        "records": head["records"],
        "user_agent": head["user_agent"] if of.derive else None,
        "sentence": sentence,
    }
    return entry | {key: value for key, value in context.items() if value} | dict(stated)


def approve(
    copy: ApprovedCopy,
    schema: Schema,
    name: str,
    stated: Mapping[str, str],
    answers: Mapping[str, str],
) -> str:
    """Return the text of a copy in which a field is approved as it is now, with answers by
    question. Other entries stay unchanged, ordered by name; comments are lost.

    Raises ``SchemaError`` for a faulty copy, and if the result would be faulty: too large, or with
    hidden text in an answer.
    """
    if copy.faults:
        raise SchemaError(copy.faults)
    entry = approved_entry(schema, name, stated)
    if said := {question: answer for question, answer in answers.items() if answer}:
        entry["answers"] = said
    text = written_copy(schema.name, {**copy.written, name: entry})
    made = _of_bytes(copy.path, text.encode())
    if made.faults:
        raise SchemaError(made.faults)
    return text


def written_copy(schema: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a copy as YAML."""
    lines = [
        "# Written by `collector schema review`, which keeps no comments.",
        f"schema: {schema}",
    ]
    lines.append("fields:")
    for name, entry in sorted(entries.items()):
        lines.append(f"  {name}:")
        for key, value in entry.items():
            if key == "entries":
                lines += [f"    {key}: |", *(f"      {line}" for line in value.splitlines())]
            elif key == "answers":
                lines += [f"    {key}:", *(f"      {flow(k)}: {flow(v)}" for k, v in value.items())]
            else:
                lines.append(f"    {key}: {flow(value)}")
    return "".join(f"{line}\n" for line in lines)
