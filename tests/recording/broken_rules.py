"""For every rule that carries a claim about recordings: a recorder that does not keep it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from collector.recording.access import Verifier
from collector.recording.grant import Grant
from collector.recording.names import KINDS
from collector.recording.recorder import RIGHTS
from collector.recording.refusals import Refused
from collector.recording.states import Terms
from collector.recording.store import Store
from collector.recording.vault import Vault

_Breaker = Callable[[pytest.MonkeyPatch], object]


def _lenient(owner: Any, name: str, code: str) -> _Breaker:
    """A method that passes over a refusal by that code."""
    strict = getattr(owner, name)

    def call(*values: Any, **options: Any) -> Any:
        try:
            return strict(*values, **options)
        except Refused as refused:
            if refused.code != code:
                raise
        return None

    return lambda patch: patch.setattr(owner, name, call)


def _ignored(owner: Any, name: str) -> _Breaker:
    """A method that does nothing."""
    return lambda patch: patch.setattr(owner, name, lambda *_, **__: frozenset())


def _everyone(patch: pytest.MonkeyPatch) -> None:
    for right, roles in RIGHTS.items():
        everyone = roles | {"participant", "media", "platform", "viewer", "auditor", "host"}
        patch.setitem(RIGHTS, right, everyone)


def _any_meeting(patch: pytest.MonkeyPatch) -> None:
    strict = Verifier.verify
    patch.setattr(Verifier, "verify", lambda self, token, _, now: strict(self, token, None, now))


def _any_notice(patch: pytest.MonkeyPatch) -> None:
    strict = Grant.choose

    def choose(self: Grant, by: str, choice: Any, _: str, now: float) -> frozenset[str]:
        return strict(self, by, choice, next(iter(self._digests)), now)

    patch.setattr(Grant, "choose", choose)


def _every_kind(patch: pytest.MonkeyPatch) -> None:
    strict = Grant.request

    def request(terms: Terms, host: str, now: float, *, longest_seconds: float) -> Grant:
        return strict(replace(terms, kinds=KINDS), host, now, longest_seconds=longest_seconds)

    patch.setattr(Grant, "request", request)


def _never_closed(patch: pytest.MonkeyPatch) -> None:
    _lenient(Grant, "_require_alive", "closed")(patch)
    patch.setattr(Vault, "finish", lambda *_: None)


BROKEN: dict[str, _Breaker] = {
    "announced": _lenient(Grant, "_require_started", "announced"),
    "paused": _ignored(Grant, "pause"),
    "closed": _never_closed,
    "kind": _every_kind,
    "notice": _any_notice,
    "pending": _lenient(Grant, "_require_consent", "pending"),
    "left": _ignored(Grant, "_leave"),
    "owner": _lenient(Grant, "admit", "owner"),
    "terms": _lenient(Terms, "__post_init__", "terms"),
    "erased": _ignored(Grant, "erase"),
    "open": _lenient(Grant, "check_readable", "open"),
    "forbidden": _everyone,
    "forbidden to other hosts": _lenient(Grant, "check_reader", "forbidden"),
    "not_found": _any_meeting,
    "expired": _lenient(Verifier, "verify", "expired"),
    "replayed": _lenient(Store, "answer_to", "replayed"),
}
"""Code, and where a rule can be broken in several ways by which part of it → how to break it."""
