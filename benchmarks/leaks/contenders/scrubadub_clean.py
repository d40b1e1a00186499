"""scrubadub: its default detectors, and all that need no model, on names and numbers too."""

from __future__ import annotations

import warnings

import scrubadub

from benchmarks.leaks.contenders.base import Contender, Spec, every_text

_LOCALES = ("en_US", "en_GB", "de_DE")
_NO_USE = ("user_supplied", "tagged", "text_blob_name", "skype")
"""Detectors that have to be told what to look for, or that load a corpus from the network."""


def make(variant: str, _spec: Spec) -> Contender:
    """Make it."""
    warnings.simplefilter("ignore")
    version = scrubadub.__version__
    if variant == "documented":
        clean = scrubadub.Scrubber().clean
        return every_text(clean, "scrubadub.Scrubber().clean(text)", version, strongest=False)
    scrubber = scrubadub.Scrubber(detector_list=[])
    for name, kind in scrubadub.detectors.detector_catalogue.get_all().items():
        if name in _NO_USE:
            continue
        has_locales = hasattr(kind, "supported_locale")
        for locale in filter(kind.supported_locale, _LOCALES) if has_locales else _LOCALES[:1]:
            scrubber.add_detector(kind(name=f"{name}_{locale}", locale=locale))
    names = ", ".join(scrubber._detectors)  # noqa: SLF001 - it has no public list
    return every_text(scrubber.clean, f"detectors {names}", version, strongest=True)
