"""Benchmarks: ``python -m benchmarks``.

Seeded corpora (``data``), contenders that do the same job on them (``contenders``), timing in one
process (``runner``) and of whole processes (``whole``), and the presentation of the figures
(``report``, ``markdown``, ``gate``).
"""
