"""The contenders: scripts that need the standard library and their own packages only.

Each module has ``make(variant, spec)``, which returns a ``base.Contender``. ``variant`` is
``documented`` (as its documentation shows it) or ``strongest`` (the strongest that we could write
with its own means). ``spec`` is what an allowlist needs to know; see ``benchmarks.leaks.listed``.
"""
