"""Hints for editors: descriptions, examples and limits of the keys of a schema document.

The models define which keys there are and their types. The limits here are those of our own
validators (``scalars``, ``model`` and ``kinds``), as JSON Schema can express them. Where it cannot
express one exactly, it is looser and never stricter: an editor must not underline what loads.
``tests/schema/test_jsonschema.py`` compares both with the loader. The hints of a kind's options are
in the kind's own module.

Patterns use only what Python's and ECMAScript's regular expressions read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collector.schema.scalars import PATH_PATTERN, RECORDS_PATTERN, RESERVED, RESERVED_PREFIX

Hints = Mapping[str, Mapping[str, Any]]
"""Key → JSON Schema keywords."""

PRINTABLE = r"[^\x00-\x1f\x7f]"
_LETTER = r"[^\x00-/:-@\[-\^`{-\x7f]"
"""A word character, or anything beyond ASCII: ECMAScript's ``\\w`` would refuse other scripts."""


def matching(pattern: str, message: str, **more: Any) -> dict[str, Any]:
    """Return the keywords for a text that matches as a whole, with the message if it does not."""
    return {"pattern": f"^{pattern}$", "patternErrorMessage": message, **more}


_NAME = matching(
    "[a-z][a-z0-9]*([-_][a-z0-9]+)*",
    "Lower case: words of a-z, 0-9 joined by - or _.",
    maxLength=64,
)
_FIELD_NAME = matching(
    r"[a-z][a-z0-9_]{0,63}(\.[a-z0-9_]{1,64}){0,7}",
    "1 to 8 lower-case words of a-z, 0-9, _ joined by dots.",
) | {"not": {"enum": sorted(RESERVED)}}
_TEXT = {"pattern": _LETTER, "patternErrorMessage": "Write it in words."}
_REASON = {
    "pattern": rf"{_LETTER}[\s\S]*{_LETTER}[\s\S]*{_LETTER}",
    "patternErrorMessage": "Say in words why this is needed.",
}
_PATH = matching(
    PATH_PATTERN,
    "1 to 8 names joined by single dots, with dots in them only between quotes; elements of lists"
    " are [0] to [99].",
    maxLength=256,
)
_COMPARED = {"type": ["string", "number", "boolean"], "maxLength": 64}
_CONDITION = {
    "description": "Members beside the value, each with the values of which it must have one.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": 4,
    "propertyNames": {"pattern": r'^[^"\x00-\x1f\x7f]+$', "maxLength": 64},
    "additionalProperties": {
        "anyOf": [
            _COMPARED,
            {
                "type": "array",
                "items": _COMPARED,
                "minItems": 1,
                "maxItems": 64,
                "uniqueItems": True,
            },
        ]
    },
}
_SOURCE = _PATH | {
    "properties": {"path": {"type": "string", **_PATH}, "when": _CONDITION},
    "required": ["path", "when"],
    "additionalProperties": False,
}
_WAY = matching(
    RECORDS_PATTERN, "A path, with [] where a list has lists, a path that ends in .*, or a dot."
)
_SELECTION = _CONDITION | {
    "description": "Members of a record, each with the values of which it must have one."
}
_RECORDS = _WAY | {
    "properties": {"path": {"type": "string", **_WAY}, "when": _SELECTION},
    "required": ["path", "when"],
    "additionalProperties": False,
}
UNIQUE_LIST: dict[str, Any] = {"minItems": 1, "uniqueItems": True}

DOCUMENT: Hints = {
    "schema": {
        "description": "The schema's name. Records carry `name/version`.",
        "examples": ["call-quality"],
        **_NAME,
        "not": {"pattern": f"^{RESERVED_PREFIX}"},
    },
    "version": {
        "description": "MAJOR.MINOR.PATCH. What is let through changes only with it.",
        "examples": ["1.0.0"],
        **matching(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}", "MAJOR.MINOR.PATCH."),
    },
    "title": {"description": "What is collected, for people.", **_TEXT},
    "owner": {"description": "Who answers for it.", "examples": ["media-team"], **_TEXT},
    "content": {
        "description": "Further names under which content travels here. The built-in list"
        " stays; content is counted and never decoded.",
        "examples": [{"chat": ["backchannel"]}],
        "minProperties": 1,
        "additionalProperties": {
            **UNIQUE_LIST,
            "items": {"minLength": 1, "maxLength": 64, "pattern": f"^{PRINTABLE}+$"},
        },
    },
    "records": {
        "description": "Where the event holds a list of records: one path, or several of which the"
        " first that is there decides. `.*` at the end means each object below it, `.` the event"
        " itself; `[]` leads on into each element of a list. With a condition, other records are"
        " counted as `not_selected`.",
        "examples": [
            "participants",
            "participants[].user_qos",
            {"path": "reports", "when": {"type": ["inbound-rtp"]}},
        ],
        "anyOf": [
            {"type": ["string", "object"], **_RECORDS},
            {
                "type": "array",
                "items": {"type": ["string", "object"], **_RECORDS},
                **UNIQUE_LIST,
            },
        ],
    },
    "user_agent": {
        "description": "Where the user-agent string may be found in an event, for fields with"
        " `derive: user_agent`.",
        "examples": [["headers.user-agent"]],
        "items": _PATH,
        **UNIQUE_LIST,
    },
    "consent": {
        "description": "Where an event carries a person's choices: purpose → true or false, or a"
        " list of refused purposes. It is never kept.",
        "examples": ["preferences"],
        **_PATH,
    },
    "also_collected": {
        "description": "What else is collected than the address, the device and the operating"
        " system, in sentences for the public: name → sentence. Fields name theirs under `also`.",
        "examples": [{"quality": "We also measure how well calls run."}],
        "minProperties": 1,
        "propertyNames": _NAME,
        "additionalProperties": _TEXT,
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

FIELD: Hints = {
    "from": {
        "description": "Where the value may be found in an event, in this order. The first path"
        " that is present decides. The field's own name is always tried, last if not listed, unless"
        " a path has a condition.",
        "examples": [
            ["client.address", "ip_address"],
            [{"path": "address", "when": {"type": ["local-candidate"]}}],
        ],
        "items": _SOURCE,
        **UNIQUE_LIST,
    },
    "category": {"description": "What it is: a data category of fideslang."},
    "purposes": {
        "description": "Which purposes of this document it is for.",
        "items": _NAME,
        **UNIQUE_LIST,
    },
    "retention": {
        "description": "How long it is kept: a whole number of h, d, w or y, at most 100 years.",
        "examples": ["30d"],
        **matching(
            "([1-9][0-9]{0,5}[hdw]|([1-9][0-9]?|100)y)", "A whole number and h, d, w or y: 30d."
        ),
    },
    "reason": {"description": "Why it is needed: what is decided or done with it.", **_REASON},
    "expires": {
        "description": "From this day on it is not collected: YYYY-MM-DD.",
        "examples": ["2027-06-30"],
        **matching("[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "YYYY-MM-DD."),
    },
    "required": {"description": "Whether an event without it is rejected."},
    "derive": {"description": "Fill it from the user-agent string where the event has no value."},
    "also": {
        "description": "Which sentence under `also_collected` speaks of it. Needed for all that is"
        " none of the address, the device and the operating system.",
        "examples": ["quality"],
        **_NAME,
    },
    "source": {
        "description": "`peer`: fill `client.address` from the sender's address where the only"
        " event of a request has no value."
    },
    "kind": {"description": "How its value is recognised: a closed set of values."},
}

PARTS: Mapping[str, Hints] = {
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
}
"""The other parts of a document."""
