"""Words × kind and the closed world: what is refused, what loads, and how much of real names."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import CATEGORIES
from collector.schema import policy
from collector.schema.names import Category, Holds, objection
from collector.schema.names.words import lexicon, name_of
from tests.names.corpora import as_natural, as_text, corpus

_TELLING = 0.97
_INNOCENT = 0.015

_LOADED_ONCE = (
    *("chatText", "message_text", "utterance", "stt", "ｃｈａｔ", "phone", "religion", "gps.lat"),
    *("display_name", "emotion", "meeting.id"),
)
_REFUSED_ONCE = ("audio.jitter", "video.fps", "screen.width", "chat.count")
_ENVELOPES = (
    *("payload", "data", "user", "event.properties", "event", "properties", "props", "body"),
    *("message", "context", "traits", "client", "device", "attributes", "resource.attributes"),
    *("participant", "participants", "session", "meeting", "request", "params", "metadata"),
    *("meta", "info", "record", "fields", "detail", "object", "report", "content", "extra"),
)
_LEAVES = (
    *("ip", "ip_address", "device.type", "device.model.name", "os.name", "os.version"),
    *("os_version", "manufacturer", "model_identifier"),
)


def test_telling_names_are_refused() -> None:
    """As short tokens, by words and closed world alone; the limit of letters is not asked."""
    names = corpus("telling")
    assert len(names) > 1000
    assert sum(as_text(entry) is not None for entry in names) >= _TELLING * len(names)
    held_out = [entry for entry in names if entry.half == "test"]
    assert sum(as_text(entry) is not None for entry in held_out) >= _TELLING * len(held_out)


def test_innocent_names_load() -> None:
    """As what they are in the system that they come from."""
    names = corpus("innocent")
    assert len(names) > 1000
    assert sum(as_natural(entry) is not None for entry in names) <= _INNOCENT * len(names)


@pytest.mark.parametrize("name", _LOADED_ONCE)
@pytest.mark.parametrize("holds", ["spells", "text"])
def test_names_of_content_and_people(name: str, holds: Holds) -> None:
    """Under any spelling."""
    assert objection(name, holds) is not None


@pytest.mark.parametrize("name", _REFUSED_ONCE)
def test_a_count_of_content_is_none(name: str) -> None:
    """A number cannot hold what was said."""
    assert objection(name, "count") is None


@pytest.mark.parametrize(
    ("name", "holds"),
    [("recording.enabled", "bool"), ("audio.codec", "closed"), ("participants.count", "count")],
)
def test_what_is_said_of_content(name: str, holds: Holds) -> None:
    """A switch, a short list, a count."""
    assert objection(name, holds) is None


@pytest.mark.parametrize("holds", get_args(Holds))
def test_members_of_content(holds: Holds) -> None:
    """What lies below content and measures nothing is refused for every kind."""
    for name in ("chatText.w0", "chat.0.text", "messages.3.t", "transcript.0"):
        assert objection(name, holds) is not None, name


@pytest.mark.parametrize("holds", get_args(Holds))
def test_special_categories(holds: Holds) -> None:
    """Art. 9 GDPR: not even as a number, or as yes or no."""
    for name in ("religion", "user.religion", "health.diagnosis", "union_member", "heartRate"):
        assert objection(name, holds) is not None, name


@pytest.mark.parametrize("envelope", _ENVELOPES)
def test_envelopes(envelope: str) -> None:
    """An address, a device or a system is one wherever an event holds it."""
    assert len(_ENVELOPES) == 31
    holds: dict[str, Holds] = {"ip": "ip", "ip_address": "ip"}
    holds |= {"os.version": "version", "os_version": "version", "device.type": "closed"}
    for leaf in _LEAVES:
        found = objection(
            f"{envelope}.{leaf}",
            holds.get(leaf, "text"),
            has_letters=leaf not in holds,
            is_leaf=True,
        )
        assert found is None, (leaf, found)


@pytest.mark.parametrize("category", CATEGORIES)
def test_counted_content_in_every_spelling(category: str) -> None:
    """Every built-in content name is content in any case, with any separators, at any depth."""
    for name in policy.CONTENT[category]:  # type: ignore[index]
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).split("_")
        camel = words[0] + "".join(word.title() for word in words[1:])
        for spelled in (name, camel, "-".join(words), name.upper(), " ".join(words), f"_{name}"):
            for path in (spelled, f"{spelled}.0.raw", f"meeting.{spelled}", f"a.{spelled}.w0"):
                assert objection(path, "text") is not None, path


@given(
    st.sampled_from("chat message transcript caption recording utterance whiteboard".split()),
    st.sampled_from(["", "-", "_", " ", ".", "__", "\u200b", "\u00ad"]),
    st.sampled_from([str, str.upper, str.title]),
)
def test_separators_do_not_hide_content(name: str, separator: str, case: object) -> None:
    """However a content word is cut, it stays one."""
    spelled = separator.join(name)
    assert objection(spelled.upper() if case is str.upper else spelled, "text") is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chatText", ["chat", "text"]),
        ("SSIDList", ["ssid", "list"]),
        ("chatmessages", ["chat", "message"]),
        ("ch4t", ["chat"]),
        ("ｃｈａｔ", ["chat"]),
        ("c.h.a.t", ["chat"]),
        ("Nachricht_Übertragung", ["nachricht", "ubertragung"]),
        ("monitors[0].width", ["monitor", "width"]),
        ("ipv4_address", ["ipv4", "address"]),
        ("os.bios", ["os", "bios"]),
    ],
)
def test_words(name: str, words: list[str]) -> None:
    """Case, digits, separators, accents, width, and words that run together."""
    assert [word.text for word in name_of(name).words] == words


def test_safe_phrases_take_their_words() -> None:
    """The longest phrase at a place wins."""
    assert objection("build.fingerprint", "text") is None
    assert objection("fingerprint", "text") is not None
    assert objection("video.key_frame.count", "count") is None


@pytest.mark.parametrize("name", ["\u0441hat", "ch\u0430t", "\u0440hone", "\u0455\u0441\u0440"])
def test_scripts(name: str) -> None:
    """Letters of two scripts, and words of another script that look like Latin ones."""
    found = objection(name, "bool")
    assert (found is None) == (name == "\u0455\u0441\u0440")
    assert found is None or found.code == "E316"


@pytest.mark.parametrize(
    "name", ["чат", "聊天", "メッセージ", "رسالة", "nachricht", "pesan", "mesaj"]
)
def test_other_languages(name: str) -> None:
    """Content has names in many."""
    assert objection(name, "text") is not None


def test_the_closed_world() -> None:
    """A text with letters is collected under words of devices, systems and media only."""
    assert objection("device.blurb", "text") is None
    found = objection("device.blurb", "text", has_letters=True)
    assert found is not None
    assert (found.code, found.word) == ("E312", "blurb")
    assert objection("device.model.name", "text", has_letters=True) is None


@pytest.mark.parametrize(
    "path",
    [
        *("device.id", "deviceId", "DEVICE-ID", "serial", "hw.serial_number", "mac", "mac_addr"),
        *("net.mac.address", "harddisk_id", "hard.disk.id", "idfa", "GAID", "advertising.id"),
        *("imei", "android_id", "machine-id", "fingerprint", "device.uuid", "hw.GUID"),
        *("device.identifier", "bluetooth-address"),
    ],
)
def test_identifiers(path: str) -> None:
    """An identifier, in any spelling and as two segments, is read only to make a pseudonym."""
    found = objection(path, "text")
    assert found is not None
    assert found.code == "E306"
    assert objection(path, "pseudonym") is None


@pytest.mark.parametrize("path", ["device.model.identifier", "os.build_id", "os.macos", "macro"])
def test_what_is_no_identifier(path: str) -> None:
    """Models and builds are shared by many devices."""
    assert objection(path, "text") is None


def test_homonyms_excuse_a_word_where_nothing_can_spell() -> None:
    """A declared word tells nothing, for numbers and lists alone."""
    excused = frozenset(["guest"])
    assert objection("guest.cpu_usage.guest", "closed") is not None
    assert objection("guest.cpu_usage.guest", "closed", homonyms=excused) is None
    assert objection("guest", "text", homonyms=excused) is not None


@pytest.mark.parametrize("category", get_args(Category))
def test_every_category_has_words(category: str) -> None:
    """And each word of a category is refused as a text that spells, whatever the language."""
    phrases = [p for p, categories in lexicon().phrases.items() if category in categories]
    assert len(phrases) > 20
    for phrase in phrases:
        assert objection("_".join(phrase), "spells") is not None, phrase


@pytest.mark.parametrize("holds", get_args(Holds))
@pytest.mark.parametrize(
    "name",
    [
        *("ᴄʜᴀᴛ", "chɑt", "ꓚꓧꓮꓔ", "ᏟᎻᎪᎢ", "🅲🅷🅰🆃", "💬", "device.💬", "device💬", "my_ᴄʜᴀᴛ"),
        *("ᴄʜᴀᴛText", "💬.model", "[2].💬", "\ue000.type"),
    ],
)
def test_letters_that_imitate_and_symbols(name: str, holds: Holds) -> None:
    """A name that looks like a word, or shows it as a picture, is refused whatever it holds."""
    found = objection(name, holds)
    assert found is not None
    assert found.code in ("E316", "E305")


@pytest.mark.parametrize(
    "name", ["[0].count", "_", "a.$.b", "temp_°C", "größe", "łączność", "ᎣᏏᏲ", "ɔkasa"]
)
def test_what_imitates_nothing(name: str) -> None:
    """Punctuation, units, and words of other scripts and alphabets."""
    found = objection(name, "count")
    assert found is None or found.code != "E316"


@pytest.mark.parametrize("name", ["transcrıpt", "phøne", "reℓigion"])
def test_strokes_and_missing_dots(name: str) -> None:
    """Latin letters with a stroke are read as those without, like letters with an accent."""
    assert objection(name, "closed") is not None
