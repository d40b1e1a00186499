"""A visitor's choices for optional purposes: a first-party cookie, and the page that sets it.

The cookie holds the names of refused purposes between dots, and nothing that differs between two
visitors with the same choices. Only the cookie of that name is read from a ``Cookie`` header; it is
never stored. There is no I/O here: an ASGI app and the HTTP receiver serve the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Literal, NamedTuple

from collector.schema.model import Schema

COOKIE = "collector-preferences"
"""The name of the cookie."""
PATH = "/preferences"
"""The path of the page at the HTTP receiver."""

Choices = frozenset[str] | Literal[False] | None
"""The refused purposes; ``False`` refuses all, ``None`` is no answer. A form of ``Consent``."""

_FIND = re.compile(rb"(?:^|;)[ \t]*" + COOKIE.encode() + rb"[ \t]*=([^;]*)").findall
_VALUE = re.compile(rb"[a-z0-9_.-]{1,4000}").fullmatch
_FORM = b"application/x-www-form-urlencoded"
MOST_BYTES = 8192
"""The most bytes of a form."""
_SECONDS = 180 * 86_400
"""How long a browser keeps the cookie: half a year, as supervisory authorities advise."""
_OWN_SITES = (b"same-origin", b"none")
_HTML = b"text/html; charset=utf-8"
_TEXT = b"text/plain; charset=utf-8"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # `no-referrer` makes browsers send `Origin: null`
    (
        b"content-security-policy",
        b"default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
)
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Your choices</title>
<meta name="viewport" content="width=device-width">
<h1>Your choices</h1>
{notes}<form method="post">
{purposes}<p><button>Save</button> <button name="none" value="1">Switch all of them off</button></p>
</form>
<p>Your browser keeps what you choose in a cookie for 180 days. It holds your choices only, and
is not recorded.</p>
</html>
"""
_NOTHING = "<p>Nothing here is optional, so there is nothing to switch off.</p>\n"
_SIGNAL = "<p>Your browser refuses everything optional by itself. That holds, too.</p>\n"
_SAVED = '<p role="status">Your choices are saved.</p>\n'


class PageResponse(NamedTuple):
    """The response to a request for the page."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


def choices_in(cookies: Iterable[bytes]) -> Choices:
    """Return the choices in ``Cookie`` headers.

    If several cookies have the name, each refusal counts. A cookie of any other form refuses all.
    """
    values = [value.strip() for line in cookies for value in _FIND(line)]
    if not values:
        return None
    if not all(map(_VALUE, values)):
        return False
    return frozenset(b".".join(values).decode().split("."))


class PreferencePage:
    """The page for one schema or several: a form that works without JavaScript. A choice is about
    the purpose of that name in each of them."""

    def __init__(self, *schemas: Schema) -> None:
        self._purposes: dict[str, list[str]] = {}
        for schema in schemas:
            for name in schema.optional:
                reasons = self._purposes.setdefault(name, [])
                if schema.purposes[name].reason not in reasons:
                    reasons.append(schema.purposes[name].reason)

    def __repr__(self) -> str:
        return "<PreferencePage>"

    def show(
        self, choices: Choices, *, is_saved: bool = False, has_signal: bool = False
    ) -> PageResponse:
        """Build the page, with the choices so far. ``has_signal`` says that the browser refuses
        every optional purpose by a header."""
        refused = frozenset(self._purposes) if choices is False else choices or frozenset()
        lines = (
            f'<p><label><input type="checkbox" name="allow" value="{name}"'
            f"{'' if name in refused else ' checked'}> <strong>{name}</strong>:"
            f" {escape('; '.join(reasons))}</label></p>\n"
            for name, reasons in self._purposes.items()
        )
        notes = (_SAVED if is_saved else "") + (_SIGNAL if has_signal else "")
        notes += "" if self._purposes else _NOTHING
        page = _PAGE.format(notes=notes, purposes="".join(lines))
        return _answer(200, _HTML, page.encode())

    def choose(self, headers: Mapping[bytes, Sequence[bytes]], body: bytes) -> PageResponse:
        """Build the response to a submitted form: it sets the cookie, or deletes it if nothing is
        refused.

        ``headers`` have lower-case names. A form from another origin is refused.
        """
        if not _is_own(headers):
            return _answer(403, _TEXT, b"forms of other origins are refused\n")
        media_type = b"".join(headers.get(b"content-type", ())).partition(b";")[0]
        if media_type.strip().lower() != _FORM:
            return _answer(415, _TEXT, b"only a form is taken\n")
        if len(body) > MOST_BYTES:
            return too_large()
        members = frozenset(body.split(b"&"))
        is_none = b"none=1" in members
        refused = [
            name for name in self._purposes if is_none or f"allow={name}".encode() not in members
        ]
        is_secure = b"".join(headers.get(b"origin", ())).startswith(b"https://")
        cookie = (b"set-cookie", _cookie(refused, is_secure=is_secure))
        return PageResponse(303, ((b"location", b"?saved"), cookie, *_HEADERS))


def too_large() -> PageResponse:
    """Build the response to a form that is too large."""
    return _answer(413, _TEXT, b"the form is too large\n")


def not_allowed() -> PageResponse:
    """Build the response to a request by another method."""
    answer = _answer(405, _TEXT, b"only GET, HEAD and POST are answered\n")
    return answer._replace(headers=((b"allow", b"GET, HEAD, POST"), *answer.headers))


def _answer(status: int, content_type: bytes, body: bytes) -> PageResponse:
    return PageResponse(status, ((b"content-type", content_type), *_HEADERS), body)


def _is_own(headers: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Return whether a form comes from our own page, as far as the browser says."""
    sites = headers.get(b"sec-fetch-site", ())
    if sites:
        return all(site in _OWN_SITES for site in sites)
    hosts = headers.get(b"host", ())
    return all(origin.partition(b"://")[2] in hosts for origin in headers.get(b"origin", ()))


def _cookie(refused: Sequence[str], *, is_secure: bool) -> bytes:
    seconds = _SECONDS if refused else 0
    secure = "; Secure" if is_secure else ""
    value = f"{COOKIE}={'.'.join(refused)}; Path=/; Max-Age={seconds}; SameSite=Lax; HttpOnly"
    return f"{value}{secure}".encode()
