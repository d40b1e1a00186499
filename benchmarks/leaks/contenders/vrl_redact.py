"""Vector's ``redact``: its own filter, and patterns for every kind that it can describe."""

from __future__ import annotations

from importlib.metadata import version

from benchmarks.leaks.contenders.base import Contender, Spec, by_shape
from benchmarks.leaks.contenders.vrl_allowlist import transformed

_DOCUMENTED = '["us_social_security_number"]'
_STRONGEST = r"""[
  "us_social_security_number",
  r'(?:[0-9][ -]?){13,19}',
  r'\+?[0-9]{1,3}(?:[ -]?[0-9]{2,4}){2,5}',
  r'(?i)\b[0-9a-f]{2}(?:[:-]?[0-9a-f]{2}){5}\b',
  r'[\w.+-]+@[\w-]+\.[\w.-]+',
  r'\b[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\b',
  r'\b[A-Z][a-z]{2,} [A-Z][a-z]{2,}\b'
]"""


def make(variant: str, _spec: Spec) -> Contender:
    """Make it. ``redact`` looks at texts in objects and lists, at any depth."""
    filters = _STRONGEST if variant == "strongest" else _DOCUMENTED
    source = (
        'doc = parse_json(string(.message) ?? "") ?? {}\n'
        f'doc = redact({{"doc": doc}}, filters: {filters})\n'
        '. = {"out": encode_json(doc.doc)}'
    )
    run = by_shape(lambda _, texts: transformed(source, texts))
    return Contender(run, source, version("vector-vrl"))
