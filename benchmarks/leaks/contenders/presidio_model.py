"""Presidio with the small English model of spaCy."""

from __future__ import annotations

import spacy

from benchmarks.leaks.contenders.base import Contender, Spec
from benchmarks.leaks.contenders.presidio import MODEL, _with_model, of


def make(variant: str, _spec: Spec) -> Contender:
    """Make it with a model."""
    if not spacy.util.is_package(MODEL):
        raise ImportError(MODEL, name=MODEL)
    return of(_with_model, variant)
