"""What an OTLP log record costs inside the filter, in this process."""

from __future__ import annotations

import random
from itertools import islice
from time import process_time_ns

from benchmarks import conditions, exports
from benchmarks.data import SEED
from collector import Filter, load_schema

__all__ = ["measure"]

_BODIES = 30
_CORPORA = {"shared resource": True, "every record another client": False}


def measure(rounds: int) -> dict[str, list[float]]:
    """µs of CPU per log record, by corpus, for each round."""
    filter_ = Filter(load_schema("conferencing"))
    found: dict[str, list[float]] = {}
    with conditions.steady():
        for name, shared in _CORPORA.items():
            made = exports.bodies("logs", protobuf=True, shared=shared, rng=random.Random(SEED))
            bodies = list(islice(made, _BODIES))
            items = _BODIES * exports.ITEMS
            found[name] = []
            for round_ in range(rounds + 1):  # the first one warms up
                start = process_time_ns()
                for body in bodies:
                    filter_.admit_otlp("logs", body, protobuf=True).encode()
                spent = process_time_ns() - start
                if round_:
                    found[name].append(spent / items / 1_000)
    return found
