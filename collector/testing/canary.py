"""Canaries: texts that mean nothing, occur nowhere else, and are easy to recognise.

Plant them where nothing may be kept, run what is to be tested, and ``scan`` all that was written.
"""

from __future__ import annotations

import secrets

from collector.errors import ConfigError

__all__ = ["canaries"]

_PREFIX = "canary"
_RUN = 8
_OWN = 8
"""Random hexadecimal digits of one call, and of one canary: 64 bits in all."""


def canaries(number: int = 8) -> tuple[str, ...]:
    """That many different canaries, such as ``canary-9f03b6aa-41d7e52c``.

    The first half of the digits is common to one call, so that what an earlier run left behind is
    not taken for a leak of this one. Raises ``ConfigError`` E204 for fewer than one.
    """
    if number < 1:
        raise ConfigError("E204", "ask for at least one canary")
    run = secrets.token_hex(_RUN // 2)
    own: dict[str, None] = {}
    while len(own) < number:
        own[secrets.token_hex(_OWN // 2)] = None
    return tuple(f"{_PREFIX}-{run}-{digits}" for digits in own)
