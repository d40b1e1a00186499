"""Test helpers for users: the noninterference law, and canaries.

    from collector import load_schema
    from collector.testing import assert_noninterference

    def test_nothing_but_the_allowlist_matters() -> None:
        assert_noninterference(load_schema("conferencing"))

``canaries`` and ``scan`` need nothing besides the package. ``assert_noninterference`` needs the
extra ``testing`` (Hypothesis), and raises ``ConfigError`` E201 without it. The tests that a type of
sinks must pass are in ``collector.testing.sinks``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from collector.extras import missing as missing_extra
from collector.testing._search import Hit, canaries, scan

if TYPE_CHECKING:
    from collector.testing.laws import assert_noninterference as assert_noninterference

__all__ = ["Hit", "assert_noninterference", "canaries", "scan"]


def __getattr__(name: str) -> object:
    if name != "assert_noninterference":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    missing = False
    try:
        return getattr(import_module("collector.testing.laws"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0] == "hypothesis"
        if not missing:
            raise
    raise missing_extra("a property test", "testing")


def __dir__() -> list[str]:
    return list(__all__)
