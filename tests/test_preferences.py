"""The page of a visitor's choices, and the cookie that it sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.consent import refused
from collector.preferences import COOKIE, MOST_BYTES, PreferencePage, choices_in
from collector.schema import Schema, load_schema
from tests.support.rows import for_each

_FORM = {b"content-type": [b"application/x-www-form-urlencoded"]}
_NAME = COOKIE.encode()


def schema_with(purposes: int) -> Schema:
    """A schema with so many optional purposes."""
    schema = load_schema("conferencing")
    first = next(iter(schema.purposes.values()))
    more = {
        f"purpose_{n}": first.model_copy(
            update={"optional": True, "reason": f"<b>Why {n}</b> & so"}
        )
        for n in range(purposes)
    }
    needed = {name: each for name, each in schema.purposes.items() if not each.optional}
    return schema.model_copy(update={"purposes": needed | more})


_PAGE = PreferencePage(schema_with(3))
_ALL = frozenset(f"purpose_{n}" for n in range(3))


def choose(body: bytes, headers: Mapping[bytes, Sequence[bytes]] = _FORM) -> tuple[int, Any]:
    """The status of the response, and its cookie."""
    answer = _PAGE.choose(headers, body)
    return answer.status, dict(answer.headers).get(b"set-cookie")


def choices_after(body: bytes) -> Any:
    """What a browser that submits a form sends afterwards."""
    _, cookie = choose(body)
    value, _, rest = cookie.partition(b";")
    return None if b"Max-Age=0" in rest else choices_in([b"a=b; " + value + b"; c=d"])


@for_each("off", range(8))
def test_what_is_not_ticked_is_refused(off: int) -> None:
    """Any choice is read back from the cookie, and shown on the page."""
    wanted = {name for bit, name in enumerate(sorted(_ALL)) if off >> bit & 1}
    body = b"&".join(f"allow={name}".encode() for name in _ALL - wanted)
    choices = choices_after(body)
    assert (choices or frozenset()) == wanted
    page = _PAGE.show(choices).body.decode()
    ticked = re.findall(r'value="(\w+)" checked', page)
    assert set(ticked) == _ALL - wanted


def test_all_off_in_one() -> None:
    """The second button, an empty form, and one with other members only."""
    for body in (b"allow=purpose_1&none=1", b"", b"allow=other&x", b"allow=purpose_1%20"):
        assert choices_after(body) == _ALL


def test_a_cookie_is_of_the_first_party_and_short() -> None:
    """It is sent with the visitor's own requests only, and tells no two visitors apart."""
    status, cookie = choose(b"allow=purpose_0")
    parts = [part.strip() for part in cookie.split(b";")]
    assert status == 303
    assert parts[0] == _NAME + b"=purpose_1.purpose_2"
    assert {b"Path=/", b"SameSite=Lax", b"HttpOnly"} < set(parts)
    assert b"Secure" not in parts
    assert not any(part.startswith(b"Domain") for part in parts)
    assert choose(b"allow=purpose_0") == (status, cookie)
    secure = _FORM | {b"origin": [b"https://a.example"], b"host": [b"a.example"]}
    assert choose(b"", secure)[1].endswith(b"; Secure")


@for_each(
    ("cookies", "choices"),
    [
        ([], None),
        ([b""], None),
        ([b"session=canary"], None),
        ([b"x" + _NAME + b"=a"], None),
        ([_NAME.upper() + b"=a"], None),
        ([_NAME], None),
        ([b"a=" + _NAME + b"=b"], None),
        ([_NAME + b"=a.b-c"], {"a", "b-c"}),
        ([b"s=canary;" + _NAME + b"=a ; t=canary"], {"a"}),
        ([_NAME + b"=a; " + _NAME + b"=b"], {"a", "b"}),
        ([_NAME + b"=a", _NAME + b"=b"], {"a", "b"}),
        ([_NAME + b"="], False),
        ([_NAME + b'="a"'], False),
        ([_NAME + b"=a; " + _NAME + b"=\xff"], False),
        ([_NAME + b"=" + b"a" * 5000], False),
        ([_NAME + b"=A"], False),
    ],
)
def test_cookies(cookies: list[bytes], choices: object) -> None:
    """One name is read; what is of another form refuses everything."""
    assert choices_in(cookies) == choices


@given(st.lists(st.binary(max_size=60) | st.just(_NAME + b"=x"), max_size=4))
def test_any_cookies(cookies: list[bytes]) -> None:
    """They are choices in a form that the filter takes, and never a value of another cookie."""
    choices = choices_in([b"; ".join(cookies)])
    if not any(_NAME in cookie for cookie in cookies):
        assert choices is None
    assert refused(["x"], choices) <= {"x"}


@for_each(
    ("headers", "status"),
    [
        ({}, 303),
        ({b"host": [b"a.example"], b"origin": [b"https://a.example"]}, 303),
        ({b"host": [b"a.example"], b"origin": [b"https://evil.example"]}, 403),
        ({b"host": [b"a.example"], b"origin": [b"https://a.example:444"]}, 403),
        ({b"host": [b"a.example"], b"origin": [b"null"]}, 403),
        ({b"origin": [b"https://a.example"]}, 403),
        ({b"sec-fetch-site": [b"same-origin"], b"origin": [b"https://proxy.example"]}, 303),
        ({b"sec-fetch-site": [b"cross-site"]}, 403),
        ({b"sec-fetch-site": [b"same-site"]}, 403),
        ({b"sec-fetch-site": [b"same-origin", b"cross-site"]}, 403),
        ({b"content-type": [b"application/json"]}, 415),
        ({b"content-type": [b"application/x-www-form-urlencoded; charset=utf-8"]}, 303),
    ],
)
def test_forms_of_others(headers: dict[bytes, list[bytes]], status: int) -> None:
    found, cookie = choose(b"allow=purpose_0", _FORM | headers)
    assert (found, cookie is not None) == (status, status == 303)


def test_too_large() -> None:
    """A form has few bytes."""
    assert choose(b"a" * (MOST_BYTES + 1)) == (413, None)


@for_each("number", [0, 1])
def test_the_page(number: int) -> None:
    """Texts of the schema are escaped; no script, style or other origin is used."""
    answer = PreferencePage(schema_with(number)).show(False, is_saved=True, has_signal=True)
    page = answer.body.decode()
    assert ("nothing to switch off" in page) is (number == 0)
    assert ("&lt;b&gt;Why 0&lt;/b&gt; &amp; so" in page) is (number == 1)
    assert "checked" not in page
    assert "saved" in page
    assert "browser refuses" in page
    assert not re.search(r"<script|<style|javascript|http:|https:|<b>", page)
    policy = dict(answer.headers)[b"content-security-policy"]
    assert b"default-src 'none'" in policy
