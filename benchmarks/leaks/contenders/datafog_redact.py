"""datafog: its defaults, and every locale, on names and numbers too.

Entities that listed values are made of (addresses, and what it takes for postal codes and dates)
are left in the strongest form, as no listed value would arrive otherwise.
"""

from __future__ import annotations

import datafog

from benchmarks.leaks.contenders.base import Contender, Spec, every_text

_LISTED = {"IP_ADDRESS", "ZIP_CODE", "DATE"}
_LOCALES = ["de"]


def make(variant: str, _spec: Spec) -> Contender:
    """Make it."""
    version = datafog.__version__
    if variant == "documented":
        return every_text(
            lambda text: str(datafog.redact(text).redacted_text),
            "datafog.redact(text)",
            version,
            strongest=False,
        )
    kinds = [k for k in datafog.get_supported_entities(locales=_LOCALES) if k not in _LISTED]

    def redact(text: str) -> str:
        return str(datafog.redact(text, entity_types=kinds, locales=_LOCALES).redacted_text)

    shown = f"datafog.redact(text, entity_types={kinds}, locales={_LOCALES})"
    return every_text(redact, shown, version, strongest=True)
