"""Public test helpers: strategies, the noninterference law, canaries.

    from collector import load_schema
    from collector.testing import assert_noninterference

    def test_nothing_but_the_allowlist_matters() -> None:
        assert_noninterference(load_schema("conferencing"))

``canaries`` and ``scan`` need nothing besides the package; the rest needs the extra ``testing``
(Hypothesis), and raises ``ConfigError`` E201 without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from collector.errors import ConfigError
from collector.testing.search import Hit, canaries, scan

if TYPE_CHECKING:
    from collector.testing.documents import schemas as schemas
    from collector.testing.laws import assert_noninterference as assert_noninterference
    from collector.testing.mappings import events as events
    from collector.testing.texts import lines as lines
    from collector.testing.texts import payloads as payloads

__all__ = [
    "Hit",
    "assert_noninterference",
    "canaries",
    "events",
    "lines",
    "payloads",
    "scan",
    "schemas",
]

_WHERE = {
    "assert_noninterference": "laws",
    "events": "mappings",
    "lines": "texts",
    "payloads": "texts",
    "schemas": "documents",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    missing = False
    try:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0] == "hypothesis"
        if not missing:
            raise
    raise ConfigError(
        "E201",
        "property tests need Hypothesis: install `data-minimisation-collector[testing]`",
    )


def __dir__() -> list[str]:
    return list(__all__)
