"""``python -m benchmarks leaks``: how much of what nobody listed gets through a program.

One corpus of attacks (``classes``, ``payloads``, ``events``, ``attacks``) goes through Collector
and through what people use instead (``contenders``, each in an environment of its own). What comes
out is decoded and searched (``search``); how much a sender can spell with valid values is measured
for each (``spelling``), and for Collector also in every place of a running sidecar (``channels``).
``sweep`` sends a million attacks to sidecars and SDKs.
"""
