"""What an editor is told about each key of a schema document, beside what the models say.

The models know types and which keys there are; here are the words, an example or two, and those
limits that our own validators keep (``terms``, ``model`` and ``kinds``), as JSON Schema can say
them. Where it cannot say them exactly, it says less and never more: an editor must not underline
what loads. ``tests/schema/test_jsonschema.py`` holds both against the loader.

Patterns keep to what Python's and ECMAScript's regular expressions read alike.
"""

from __future__ import annotations

from typing import Any

from collector.schema.terms import RESERVED

__all__ = ["DOCUMENT", "FIELD", "KINDS", "MODELS", "Words"]

Words = dict[str, dict[str, Any]]

_PRINTABLE = r"[^\x00-\x1f\x7f]"
_LETTER = r"[^\x00-/:-@\[-\^`{-\x7f]"
"""A word character, or anything beyond ASCII: ECMAScript's ``\\w`` would refuse other scripts."""
_SEGMENT = r"(?!\*(\.|$)|[^.]*\[[^.\]]*\](\.|$))[^.\x00-\x1f\x7f]+"
_FIRST = rf"(\[(0|[1-9][0-9]?)\]|{_SEGMENT})"


def _matching(pattern: str, message: str, **more: Any) -> dict[str, Any]:
    return {"pattern": f"^{pattern}$", "patternErrorMessage": message, **more}


_NAME = _matching(
    "[a-z][a-z0-9]*([-_][a-z0-9]+)*",
    "Lower case: words of a-z, 0-9 joined by - or _.",
    maxLength=64,
)
_FIELD_NAME = _matching(
    r"[a-z][a-z0-9_]{0,63}(\.[a-z0-9_]{1,64}){0,7}",
    "1 to 8 lower-case words of a-z, 0-9, _ joined by dots.",
) | {"not": {"enum": sorted(RESERVED)}}
_TEXT = {"pattern": _LETTER, "patternErrorMessage": "Write it in words."}
_REASON = {
    "pattern": rf"{_LETTER}[\s\S]*{_LETTER}[\s\S]*{_LETTER}",
    "patternErrorMessage": "Say in words why this is needed.",
}
_PATH = _matching(
    rf"{_FIRST}(\.{_SEGMENT}){{0,7}}",
    "1 to 8 names joined by single dots; the first may be [0] to [99].",
    maxLength=256,
)
_RECORDS = _matching(
    rf"(\.|{_FIRST}(\.{_SEGMENT}){{0,7}}(\.\*)?)", "A path, a path that ends in .*, or a dot."
)
_VALUE = _matching(
    rf"(?!\s){_PRINTABLE}+(?<!\s)", "Printable, without blanks around it.", maxLength=64
)
_LIST = {"minItems": 1, "uniqueItems": True}

DOCUMENT: Words = {
    "schema": {
        "description": "The schema's name. Records carry `name/version`.",
        "examples": ["call-quality"],
        **_NAME,
    },
    "version": {
        "description": "MAJOR.MINOR.PATCH. What is let through changes only with it.",
        "examples": ["1.0.0"],
        **_matching(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}", "MAJOR.MINOR.PATCH."),
    },
    "title": {"description": "What is collected, for people.", **_TEXT},
    "owner": {"description": "Who answers for it.", "examples": ["media-team"], **_TEXT},
    "content": {
        "description": "Further names under which content travels here. The built-in list"
        " stays; content is counted and never decoded.",
        "examples": [{"chat": ["backchannel"]}],
        "minProperties": 1,
        "additionalProperties": {
            **_LIST,
            "items": {"minLength": 1, "maxLength": 64, "pattern": f"^{_PRINTABLE}+$"},
        },
    },
    "records": {
        "description": "Where the event holds a list of records: one path, or several of which the"
        " first that is there decides. `.*` at the end means each object below it, `.` the event"
        " itself.",
        "examples": ["participants"],
        "anyOf": [
            {"type": "string", **_RECORDS},
            {"type": "array", "items": {"type": "string", **_RECORDS}, **_LIST},
        ],
    },
    "user_agent": {
        "description": "Where the user-agent string may be found in an event, for fields with"
        " `derive: user_agent`.",
        "examples": [["headers.user-agent"]],
        "items": _PATH,
        **_LIST,
    },
    "consent": {
        "description": "Where an event carries a person's choices: purpose → true or false, or a"
        " list of refused purposes. It is never kept.",
        "examples": ["preferences"],
        **_PATH,
    },
    "max_bits": {
        "description": "The greatest width of a record that is meant, in bits."
        " `collector schema capacity` shows the present one.",
        "examples": [128],
    },
    "purposes": {"description": "Why fields are used: name → purpose.", "propertyNames": _NAME},
    "fields": {
        "description": "What is collected, under OpenTelemetry's names, in the order of a record's"
        " keys. Nothing else is.",
        "propertyNames": _FIELD_NAME,
        "minProperties": 1,
    },
    "tests": {"description": "Events, with what must come out: `collector schema test`."},
}

FIELD: Words = {
    "from": {
        "description": "Where the value may be found in an event, in this order. The first path"
        " that is present decides. The field's own name is always tried, last if not listed.",
        "examples": [["client.address", "ip_address"]],
        "items": _PATH,
        **_LIST,
    },
    "category": {"description": "What it is: a data category of fideslang."},
    "purposes": {
        "description": "Which purposes of this document it is for.",
        "items": _NAME,
        **_LIST,
    },
    "retention": {
        "description": "How long it is kept: a whole number of h, d, w or y, at most 100 years.",
        "examples": ["30d"],
        **_matching(
            "([1-9][0-9]{0,5}[hdw]|([1-9][0-9]?|100)y)", "A whole number and h, d, w or y: 30d."
        ),
    },
    "reason": {"description": "Why it is needed: what is decided or done with it.", **_REASON},
    "expires": {
        "description": "From this day on it is not collected: YYYY-MM-DD.",
        "examples": ["2027-06-30"],
        **_matching("[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "YYYY-MM-DD."),
    },
    "required": {"description": "Whether an event without it is rejected."},
    "derive": {"description": "Fill it from the user-agent string where the event has no value."},
    "source": {
        "description": "`peer`: fill `client.address` from the sender's address where the only"
        " event of a request has no value."
    },
    "kind": {"description": "How its value is recognised: a closed set of values."},
}

KINDS: dict[str, tuple[str, Words]] = {
    "ip": (
        "An IPv4 or IPv6 address, whole or truncated to a network.",
        {
            "truncate": {
                "description": "How many leading bits are kept; all if left out.",
                "examples": [{"ipv4": 24, "ipv6": 48}],
            }
        },
    ),
    "enum": (
        "One of a list of values.",
        {
            "values": {
                "description": "The values, each once.",
                "examples": [["desktop", "phone"]],
                "items": _VALUE,
                **_LIST,
            },
            "aliases": {
                "description": "What sources call them: exact source value → value.",
                "examples": [{"iPhone": "phone"}],
                "propertyNames": _VALUE,
                "additionalProperties": _VALUE,
            },
            "fold_case": {"description": "Whether ASCII letters match in any case."},
        },
    ),
    "version": (
        "Numbers joined by dots, cut to the first parts.",
        {
            "parts": {"description": "How many parts are kept, 1 to 4."},
            "maximum": {
                "description": "The greatest number of each part, at least for those that are kept;"
                " 99999 if left out.",
                "examples": [[99, 99, 99999]],
                "minItems": 1,
                "maxItems": 4,
            },
        },
    ),
    "token": (
        "A text of a counted pattern, or an entry of a catalogue. Never cut, never changed.",
        {
            "pattern": {
                "description": "A finite regular expression for the whole text: literals, classes,"
                " groups, `|`, `?`, `{n}`, `{n,m}`. Put it in single quotes.",
                "examples": ["[0-9]{2}[A-Z][0-9]{1,5}[a-z]?"],
                "minLength": 1,
                "maxLength": 4096,
            },
            "catalogue": {
                "description": "A closed list: the file NAME.txt beside the schema or in"
                " `catalogues/`, or a shipped one.",
                "examples": ["device-manufacturers", "device-models", "os-names"],
                **_matching("[a-z0-9][a-z0-9_-]{0,63}", "Lower case: a-z, 0-9, - and _."),
            },
            "max_length": {"description": "The greatest length in characters that is meant."},
        },
    ),
    "integer": (
        "A whole number in range, rounded down to a multiple of the step.",
        {
            "minimum": {"description": "The least value, a multiple of `step`."},
            "maximum": {"description": "The greatest value."},
            "step": {"description": "Values are rounded down to a multiple of it."},
        },
    ),
    "number": (
        "A number in range, rounded down to a multiple of the step.",
        {
            "minimum": {"description": "The least value, a multiple of `step`."},
            "maximum": {"description": "The greatest value."},
            "step": {"description": "Values are rounded down to a multiple of it."},
        },
    ),
    "boolean": ("`true` or `false`.", {}),
    "time": (
        "A moment, truncated.",
        {
            "precision": {"description": "What it is truncated to."},
            "within": {
                "description": "How far from now it may lie: ± and a number of s, m, h, d or w.",
                "examples": ["±7d"],
                **_matching("±?[1-9][0-9]{0,4}[smhdw]", "± and a whole number with s, m, h, d, w."),
            },
        },
    ),
    "pseudonym": (
        "A keyed hash that cannot be undone, for identifiers.",
        {
            "key": {
                "description": "Where the secret lies, never the secret itself.",
                "examples": ["env:COLLECTOR_PSEUDONYM_KEY"],
                **_matching(f"(env|file):{_PRINTABLE}+", "env:NAME or file:PATH."),
            },
            "rotate": {
                "description": "How long a key lives: a whole number of m, h, d or w.",
                "examples": ["1d"],
                **_matching("[1-9][0-9]{0,5}[mhdw]", "A whole number and m, h, d or w: 1d."),
            },
        },
    ),
}
"""What each kind is, and its options."""

MODELS: dict[str, Words] = {
    "Purpose": {
        "use": {"description": "What for: a data use of fideslang. Others are not collected for."},
        "basis": {"description": "The legal basis, Art. 6(1) GDPR."},
        "reason": {"description": "Why, in words.", **_REASON},
        "optional": {"description": "Whether a person may refuse it."},
    },
    "Trial": {
        "name": {"description": "A name of its own.", **_TEXT},
        "event": {"description": "Any JSON value."},
        "keeps": {
            "description": "Exactly the record that comes out, without `schema`: `{}` for none, a"
            " list for several."
        },
        "never_contains": {
            "description": "Texts that must not come out.",
            "items": {"minLength": 1},
        },
    },
    "Truncation": {
        "ipv4": {"description": "Leading bits of an IPv4 address.", "minimum": 8, "maximum": 32},
        "ipv6": {"description": "Leading bits of an IPv6 address.", "minimum": 16, "maximum": 128},
    },
}
"""The other parts of a document."""
