"""Say which fields of a schema the public sentence of ``needed-only`` covers, and what else the
schema tells the public.

``POSITIVE`` is a closed list: a field is within the sentence if its name, its kind and each of its
paths are on it, and the paths to records have only words of ``WAYS``. Lists of telling words decide
nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from collector.schema.conditions import Condition
from collector.schema.model import Schema
from collector.schema.names import Suggestion, suggestions, words
from collector.schema.scalars import RecordsPath, Source, beside, condition_of, path_of, spoken


class Positive(NamedTuple):
    """The kinds that a field on the list may have, and its paths in addition to its own name."""

    kinds: frozenset[str]
    paths: tuple[str, ...] = ()


def _positive(kinds: str, *paths: str) -> Positive:
    return Positive(frozenset(kinds.split()), paths)


POSITIVE: Mapping[str, Positive] = {
    "client.address": _positive("ip", "ip", "ip_address", "client_ip", "peer.ip"),
    "device.type": _positive("enum"),
    "device.manufacturer": _positive("token enum", "manufacturer"),
    "device.brand": _positive("token enum", "brand"),
    "device.model.identifier": _positive("token", "model_identifier"),
    "device.model.name": _positive("token", "device.model", "model_name", "model"),
    "device.class": _positive("enum"),
    "device.form_factor": _positive("enum", "form_factor"),
    "device.memory.size": _positive("integer number", "device.memory"),
    "device.screen.width": _positive("integer", "screen.width"),
    "device.screen.height": _positive("integer", "screen.height"),
    "device.screen.density": _positive("integer number", "screen.density"),
    "device.battery": _positive("boolean"),
    "os.type": _positive("enum"),
    "os.name": _positive("token enum", "os", "system_name"),
    "os.version": _positive("version", "system_version"),
    "os.build_id": _positive("token", "os.build", "build_id"),
    "os.edition": _positive("enum"),
    "os.patch": _positive("token version"),
    "host.arch": _positive("enum", "arch", "architecture"),
    "host.type": _positive("enum"),
    "host.cpu.vendor.id": _positive("enum token"),
    "host.cpu.family": _positive("enum token"),
    "host.cpu.model.id": _positive("enum token"),
    "host.cpu.model.name": _positive("token"),
    "host.cpu.cores": _positive("integer", "cpu.cores"),
    "system.memory.size": _positive("integer"),
    "hw.model": _positive("token"),
    "hw.vendor": _positive("enum token"),
    "hw.bios_version": _positive("version"),
    "hw.firmware_version": _positive("version"),
    "hw.driver_version": _positive("version"),
    "android.os.api_level": _positive("integer enum"),
    "user_agent.os.name": _positive("enum token"),
    "user_agent.os.version": _positive("version"),
}
"""The fields that are the address, the device or the operating system. Paths are compared word by
word, so ``deviceType``, ``device_type`` and ``device.type`` are the same."""

WAYS = frozenset(
    "attributes batch batches client clients data device devices entries entry event events host"
    " hosts item items list participant participants payload payloads record records report reports"
    " resource resources result results row rows sample samples stats telemetry".split()
)
"""The words that a path to records may have: an envelope, a list, or devices and who uses them.
They say nothing about the people in the records."""


class Scope(NamedTuple):
    """What a schema collects beyond address, device and operating system: for each such field its
    public sentence, or ``None``."""

    outside: Mapping[str, str | None]

    @property
    def without_sentence(self) -> tuple[str, ...]:
        """Return the fields outside the scope without a sentence."""
        return tuple(name for name, text in self.outside.items() if text is None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the sentences to publish with ``needed-only``, each once."""
        return tuple(dict.fromkeys(text for text in self.outside.values() if text is not None))

    @property
    def verdict(self) -> Literal["holds", "amended", "broken"]:
        """Return the verdict on ``needed-only``: ``amended`` if other sentences must be published
        with it."""
        if self.without_sentence:
            return "broken"
        return "amended" if self.outside else "holds"


def is_within(name: str, kind: str, paths: Iterable[str]) -> bool:
    """Return whether name, kind and all paths of a field are on the closed list."""
    listed = POSITIVE.get(name)
    if listed is None or kind not in listed.kinds:
        return False
    known = {words(path) for path in (name, *listed.paths)}
    return all(path.isascii() and words(spoken(path)) in known for path in paths)


def has_known_ways(schema: Schema) -> bool:
    """Return whether the paths to records have only words of ``WAYS``: the ``model`` in
    ``insulin.pumps`` says more than the name of a device."""
    found = (word for way in schema.ways for word in words(spoken(way)))
    return all(word in WAYS or (word.isascii() and word.isdigit()) for word in found)


def scope(schema: Schema) -> Scope:
    """Find the fields outside the sentence of ``needed-only``.

    A value kept under a condition also reveals the value beside it, and a value derived from a user
    agent comes from a path that is not on the list. So both are outside.
    """
    outside: dict[str, str | None] = {}
    is_led = not has_known_ways(schema) or any(map(condition_of, schema.records or ()))
    for name, field in schema.fields.items():
        paths = [*field.paths(name), *(schema.user_agent_paths if field.derive else ())]
        told = is_led or any(map(condition_of, field.places(name)))
        if field.also is not None or told or not is_within(name, field.kind, paths):
            outside[name] = None if field.also is None else schema.also_collected.get(field.also)
    return Scope(outside)


def suggested(schema: Schema, name: str) -> tuple[Suggestion, ...]:
    """Return what the words of a field's name, its paths, the paths of its records, and the members
    in its conditions may be about. This decides nothing."""
    places = schema.fields[name].places(name)
    ways = schema.records or ()
    compared = [beside(path_of(each), m) for each in places for m, _ in condition_of(each)]
    compared += [member for way in ways for member, _ in condition_of(way)]
    return suggestions(name, map(spoken, (*map(path_of, (*places, *ways)), *compared)))


class Conditions(NamedTuple):
    """The conditions on records, and on the values of each field; of several, one must hold. Empty
    if something is read without a condition."""

    of_records: tuple[Condition, ...]
    of_fields: Mapping[str, tuple[Condition, ...]]


def conditions(schema: Schema) -> Conditions:
    """Find the conditions under which records and values are read."""
    of_fields = {name: _each(field.places(name)) for name, field in schema.fields.items()}
    return Conditions(
        _each(schema.records or ()), {name: each for name, each in of_fields.items() if each}
    )


def _each(sources: Iterable[Source | RecordsPath]) -> tuple[Condition, ...]:
    found = tuple(dict.fromkeys(map(condition_of, sources)))
    return () if () in found else found
