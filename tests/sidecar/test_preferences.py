"""A visitor's choices at real servers: the sidecar, and an application with the middleware.

The visitor is a client with a cookie jar that follows redirects and submits forms, without
JavaScript; every other cookie, header, query and member of a form holds a canary.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from collector import Collector
from collector.preferences import COOKIE
from collector.sdk.web import ClientMiddleware, PreferencesApp
from collector.testing import canaries, scan
from tests.filter.test_event_consent import made
from tests.sdk.test_web import served
from tests.sidecar.test_consent import rows
from tests.support.deadline import WAIT_SECONDS
from tests.support.delivery import delivered
from tests.support.sidecar import started

_EVENT = {"client.address": "203.0.113.7", "os.name": "Linux", "view.dark": True}
_NAMES = {"os.version": "crashes", "view.dark": "crashes", "os.name": "planning"}
"""The optional purpose of each field."""
_PLANTED = canaries(6)
_ALL = {"planning", "crashes"}


class Visitor:
    """A visitor with a browser. ``page`` is the address of the page with the choices."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.cookies = CookieJar()
        jar = urllib.request.HTTPCookieProcessor(self.cookies)
        self._opener = urllib.request.build_opener(jar)
        cookie, referer, query, header, *_ = _PLANTED
        self._opener.addheaders = [("Referer", f"http://{referer}"), ("X-Header", header)]
        self._query, self._cookie = query, cookie

    def ask(self, address: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """The status and the text of an answer, after redirects."""
        request = urllib.request.Request(address, body, headers)
        try:
            with self._opener.open(request, timeout=WAIT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def offered(self) -> dict[str, bool]:
        """The purposes on the page, and whether their boxes are ticked."""
        status, text = self.ask(f"{self.page}?{self._query}")
        assert (status, self._query in text) == (200, False)
        return {
            name: bool(on) for name, on in re.findall(r'"allow" value="(\w+)"( checked)?>', text)
        }

    def choose(self, *allowed: str, member: str = "") -> None:
        """Submit the form with these boxes ticked."""
        form = "&".join([*(f"allow={name}" for name in allowed), f"x={_PLANTED[4]}", member])
        status, text = self.ask(self.page, form.encode())
        assert (status, "saved" in text) == (200, True)

    def header(self) -> str:
        """A browser's cookie header: the choices between other cookies."""
        own = [f"{each.name}={each.value}" for each in self.cookies]
        return "; ".join([f"session={self._cookie}", *own, f"{self._cookie}=1", f"x{COOKIE}=a"])


def _status(page: str, body: bytes) -> int:
    """The status of an answer, which may come before all is sent."""
    to = urlsplit(page)
    with closing(HTTPConnection(to.netloc, timeout=WAIT_SECONDS)) as connection:
        connection.connect()
        with suppress(ConnectionError):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", to.path, body, kind)
        return connection.getresponse().status


Send = Callable[[str | None], object]
Serving = tuple[str, Send, Callable[[], list[set[str]]]]


@contextmanager
def sidecar(folder: Path) -> Iterator[Serving]:
    """A sidecar that serves the page itself."""
    environ = {
        "COLLECTOR__SCHEMA": str(folder / "made.yaml"),
        "COLLECTOR__DATA": str(folder),
        "COLLECTOR__HTTP__PREFERENCES": "true",
    }
    with started(folder, environ=environ) as running:

        def send(cookie: str | None) -> None:
            headers = {"Content-Type": "application/json"}
            headers |= {} if cookie is None else {"Cookie": cookie}
            body = orjson.dumps(_EVENT)
            assert running.request("POST", "/v1/events", body, headers).status == 200

        def kept() -> list[set[str]]:
            delivered(running)
            return rows(folder / "store.db")

        yield f"http://127.0.0.1:{running.ports['http']}/preferences", send, kept
        assert running.stop()[0] == 0
        (folder / "log").write_text("\n".join(running.log))


_WEB = """
schema: made
version: 1.0.0
title: Clients of a page
owner: tests
purposes:
  security: {use: essential.service.security, basis: legitimate_interests, reason: Needed here}
  planning: {use: essential.service.operations, basis: consent, optional: true, reason: Plan it}
  crashes: {use: essential.service.operations, basis: consent, optional: true, reason: Mend it}
fields:
  client.address:
    {kind: ip, category: user.device.ip_address, purposes: [security], retention: 1d, reason: Tests}
  os.name:
    {kind: token, pattern: 'iOS', derive: user_agent, category: user.device,
     purposes: [planning], retention: 1d, reason: Tests need one}
  os.version:
    {kind: version, derive: user_agent, category: user.device, purposes: [crashes],
     retention: 1d, reason: Tests need one}
"""
_PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"


@contextmanager
def application(folder: Path) -> Iterator[Serving]:
    """An application with the middleware, and with the page mounted in it."""
    (folder / "web.yaml").write_text(_WEB)

    async def room(request: Request) -> PlainTextResponse:
        return PlainTextResponse("a room")

    with ExitStack() as stack:
        store = f"sqlite:///{folder}/store.db"
        telemetry = stack.enter_context(Collector(folder / "web.yaml", store))
        mounted = Mount("/own/preferences", app=PreferencesApp(telemetry))
        inner = Starlette(routes=[Route("/room", room), mounted])
        app: Any = ClientMiddleware(inner, telemetry=telemetry)

        async def measured(scope: Any, receive: Any, send: Any) -> None:
            await (app if scope.get("path") == "/room" else inner)(scope, receive, send)

        port = stack.enter_context(served(measured))

        def send(cookie: str | None) -> None:
            headers = {"User-Agent": _PHONE} | ({} if cookie is None else {"Cookie": cookie})
            status, _ = Visitor("").ask(f"http://127.0.0.1:{port}/room", None, **headers)
            assert status == 200

        def kept() -> list[set[str]]:
            assert telemetry.flush(WAIT_SECONDS)
            return rows(folder / "store.db")

        yield f"http://127.0.0.1:{port}/own/preferences/", send, kept


@pytest.mark.parametrize("serving", [sidecar, application])
def test_a_visitor_switches_purposes_off(tmp_path: Path, serving: Any) -> None:
    """Each optional field is kept only while its purpose is on. Nothing of a cookie is kept."""
    made(tmp_path)
    left: list[set[str]] = []
    with serving(tmp_path) as (page, send, kept):
        visitor = Visitor(page)
        assert visitor.offered() == dict.fromkeys(_ALL, True)
        assert not list(visitor.cookies)
        for allowed in (_ALL, {"planning"}, {"crashes"}, set[str]()):
            visitor.choose(*allowed)
            assert {name for name, on in visitor.offered().items() if on} == allowed
            send(visitor.header())
            left.append(allowed)
        visitor.choose(*_ALL, member="none=1")
        send(visitor.header())
        visitor.choose(*_ALL)
        assert not list(visitor.cookies)
        send(visitor.header())
        send(None)
        send(f"{COOKIE}={_PLANTED[5]} {_PLANTED[5]}")
        left += [set(), _ALL, _ALL, set()]
        assert visitor.ask(page, b"", Origin="http://other.example")[0] == 403
        assert visitor.ask(page, b"", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        assert _status(page, b"x" * 10_000) == 413
        assert visitor.ask(page, b"{}", **{"Content-Type": "application/json"})[0] == 415
        found = kept()
    assert all("client.address" in each for each in found)
    purposes = [{_NAMES[name] for name in each & _NAMES.keys()} for each in found]
    assert sorted(map(sorted, purposes)) == sorted(map(sorted, left))
    assert not scan(tmp_path, _PLANTED)


def test_without_the_setting_there_is_no_page(tmp_path: Path) -> None:
    """The cookie still counts. With the setting, the page allows only a few methods."""
    made(tmp_path)
    environ = {"COLLECTOR__SCHEMA": "made.yaml", "COLLECTOR__DATA": "."}
    with started(tmp_path, environ=environ) as running:
        for method in ("GET", "HEAD", "POST"):
            assert running.request(method, "/preferences").status == 404
        headers = {"Content-Type": "application/json", "Cookie": f"{COOKIE}=planning"}
        body = orjson.dumps(_EVENT)
        assert running.request("POST", "/v1/events", body, headers).json["admitted"] == 1
        delivered(running)
    assert rows(tmp_path / "store.db") == [{*_EVENT} - {"os.name"}]
