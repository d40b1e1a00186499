"""The endpoints of the recorder, in one table.

``openapi.json`` describes who may call each endpoint, what it takes and what it returns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

PATTERNS = {
    "id": "[0-9a-f]{32}",
    "pseudonym": "[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    "track": "[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    "n": "0|[1-9][0-9]{0,9}",
}
"""The grammar of each parameter of a path."""


class Endpoint(NamedTuple):
    """An endpoint: its name in the API, the method and the path. ``is_once`` says that a token is
    good for one such request."""

    name: str
    method: str
    path: str
    is_once: bool = False


_ONE = "/v1/recordings/{id}"
_MEMBER = f"{_ONE}/members/{{pseudonym}}"
_TRACK = f"{_ONE}/tracks/{{track}}"

ROUTES: tuple[Endpoint, ...] = (
    Endpoint("request", "POST", "/v1/recordings", is_once=True),
    Endpoint("withdraw", "DELETE", f"{_ONE}/members/me", is_once=True),
    Endpoint("join", "PUT", _MEMBER),
    Endpoint("depart", "DELETE", _MEMBER, is_once=True),
    *(
        Endpoint(name, "POST", f"{_ONE}/{name}", is_once=True)
        for name in ("start", "pause", "resume", "stop", "handover", "accept")
    ),
    Endpoint("notice_wav", "GET", f"{_ONE}/notice.wav"),
    Endpoint("notice_png", "GET", f"{_ONE}/notice.png"),
    Endpoint("choice", "PUT", f"{_ONE}/choice", is_once=True),
    Endpoint("chunk", "PUT", f"{_TRACK}/chunks/{{n}}"),
    Endpoint("events", "GET", f"{_ONE}/events"),
    Endpoint("track", "GET", _TRACK),
    Endpoint("manifest", "GET", f"{_ONE}/manifest"),
    Endpoint("erase", "DELETE", _ONE, is_once=True),
)
"""Every endpoint; if two match, the first one counts."""


def _matcher(route: Endpoint) -> re.Pattern[str]:
    pattern = re.escape(route.path).replace(r"\{", "{").replace(r"\}", "}")
    for name, grammar in PATTERNS.items():
        pattern = pattern.replace(f"{{{name}}}", f"(?P<{name}>{grammar})")
    return re.compile(pattern, re.ASCII)


_MATCHERS = tuple((route, _matcher(route)) for route in ROUTES)


def find(method: str, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
    """Return the endpoint of a request and the parameters in its path, if there is one."""
    for route, matcher in _MATCHERS:
        if route.method == method and (found := matcher.fullmatch(path)):
            return route, found.groupdict()
    return None
