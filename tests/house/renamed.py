"""Names that were given up: each said something else than what the part does, or two things.

A name here is that of no module, class or function any more; parameters, variables and attributes
follow. ``turn`` is for locks, ``kept`` for what is stored.
"""

from __future__ import annotations

from tests.house.figures import PACKAGE, House

__all__ = ["MODULES", "NAMES", "left_modules", "left_names", "left_variables"]

MODULES = frozenset(
    """
    cli.afresh cli.answers cli.holdings cli.passes cli.patience cli.schema.papers
    filter.alone filter.choices filter.draft filter.events filter.otlp.account filter.otlp.hearing
    filter.otlp.level filter.relay filter.revision filter.trial
    ingest.answers ingest.bodies ingest.crowd ingest.exports ingest.head ingest.origins
    ingest.parting ingest.reading ingest.seats ingest.turns
    ops.listed
    proof proof.abroad proof.paper proof.passage proof.vocabulary proof.words
    schema.glossary schema.kept schema.listing schema.remnant schema.revision schema.shelf
    schema.terms
    sdk.courier sdk.detour sdk.otel.sieve sdk.slots sdk.waiting
    server.evidence server.parts server.surroundings server.trial server.watch
    sinks.contents sinks.held sinks.mark sinks.order sinks.permitted sinks.reading sinks.rounds
    sinks.settling sinks.turn
    spool.beside spool.intake spool.keys spool.log spool.waiting
    testing.remember testing.twins testing.unpacked
    """.split()
)
"""Modules, without the name of the package."""

NAMES = frozenset(
    """
    Courier Crowd Detour Events Guarded Places Room Sieve Taken Waiting
    _BESIDES _deaf _parcel _say
    CROWDED LATE NOWHERE TYPE
    deaf deaf_items glance going heard hears held kept meant never news said settle
    sifted still strangers taker told turn under
    """.split()
)
"""Classes, functions, constants, parameters, variables, attributes. ``alone`` and ``lost`` are not
among them: they are public, in what ``store risk`` prints and in an SDK's ``Account``."""


def left_modules(house: House) -> list[str]:
    """The modules that still have a name of the list."""
    return sorted(name for name in MODULES if f"{PACKAGE}.{name}" in house.trees)


def left_names(house: House) -> dict[str, int]:
    """The classes and functions that still have a name of the list, and how many there are."""
    return {name: house.definitions[name] for name in sorted(NAMES & set(house.definitions))}


def left_variables(house: House) -> dict[str, int]:
    """The same of constants, parameters, variables and attributes."""
    return {name: house.variables[name] for name in sorted(NAMES & set(house.variables))}
