"""The closed lists: uses, categories, content names."""

from __future__ import annotations

import pytest

from collector.contracts import CATEGORIES
from collector.schema import policy
from tests.schema.conftest import Faults
from tests.support.make_schemas import PLAIN

FORBIDDEN = (
    "marketing",
    "third_party_sharing",
    "train_ai_system",
    "personalize",
    "sales",
    "collect",
    "employment",
    "finance",
    "operations",
)


def test_every_use_of_the_taxonomy(faults: Faults) -> None:
    allowed = set()
    for use in sorted(policy.taxonomy()["data_uses"]):
        found = faults(PLAIN.replace("essential.service.operations", use))
        assert [fault.code for fault in found] in ([], ["E301"])
        if not found:
            allowed.add(use)
    assert {use for use in allowed if not use.startswith("essential.service.")} == {
        "essential.fraud_detection",
        "essential.legal_obligation",
        "functional.service.improve",
        "functional.storage.privacy_preferences",
        "analytics.reporting.system.performance",
    }
    assert "essential.service" not in allowed
    assert not [use for use in allowed if use.split(".")[0] in FORBIDDEN]


def test_every_category_of_the_taxonomy() -> None:
    inside = set(filter(policy.category_is_allowed, policy.taxonomy()["data_categories"]))
    assert {key for key in inside if not key.startswith("user.device")} == {
        "system",
        "system.authentication",
        "system.operations",
        "user.telemetry",
    }


def test_every_category_in_a_document(faults: Faults) -> None:
    """A category outside these is E303; one that confesses an identifier is E306."""
    loads = set()
    for category in sorted(policy.taxonomy()["data_categories"]):
        found = faults(PLAIN.replace("user.device", category))
        assert [fault.code for fault in found] in ([], ["E303"], ["E306"])
        if not found:
            loads.add(category)
    assert loads == {
        "system",
        "system.authentication",
        "system.operations",
        "user.device",
        "user.device.cookie",
        "user.device.ip_address",
        "user.telemetry",
    }


@pytest.mark.parametrize(
    ("key", "claim"),
    [
        ("marketing.advertising.third_party.targeted", "no-third-party-ads"),
        ("third_party_sharing", "no-third-party-ads"),
        ("sales", "no-sale"),
        ("employment.recruitment", "no-monitoring"),
        ("analytics.reporting.content_performance", "no-monitoring"),
        ("train_ai_system", "needed-only"),
        ("user.content.private", "no-content"),
        ("user.biometric.voice", "no-content"),
        ("user.location.precise", "no-monitoring"),
        ("user.name", "needed-only"),
    ],
)
def test_a_fault_names_the_claim_that_would_break(faults: Faults, key: str, claim: str) -> None:
    """Each forbidden use and category says which public sentence would not be true any more."""
    text = PLAIN.replace("essential.service.operations", key)
    (fault,) = faults(PLAIN.replace("user.device", key) if key.startswith("user.") else text)
    assert f"`{claim}`" in fault.message


def test_every_forbidden_key_breaks_a_claim() -> None:
    """The table speaks of keys of the taxonomy, and of no allowed ones alone."""
    known = policy.taxonomy()["data_uses"] | policy.taxonomy()["data_categories"]
    assert set(policy.CLAIMS) <= known
    assert not [key for key in policy.CLAIMS if policy.use_is_allowed(key)]
    assert not [key for key in policy.CLAIMS if policy.category_is_allowed(key)]


@pytest.mark.parametrize(
    "category", ["systems", "system.", "user.devices", "user.device.", "user.telemetry.x", ""]
)
def test_what_only_looks_like_a_category(faults: Faults, category: str) -> None:
    """A prefix of letters is not a key of the taxonomy."""
    text = PLAIN.replace("category: user.device", f"category: '{category}'")
    assert [fault.code for fault in faults(text)] == ["E302"]


def test_content_can_be_added_not_shortened() -> None:
    """Added names join the built-in ones; a built-in name keeps its category."""
    names = policy.content_names({"chat": ["backchannel", "audio"]})
    assert names["backchannel"] == "chat"
    assert names["audio"] == "audio"
    assert set(policy.content_names({})) < set(names)
    assert set(names.values()) == set(CATEGORIES)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("chat", "chat"),
        ("a.chat.b", "chat"),
        ("a.CH_at.b", "CH_at"),
        ("a.chat[0].b", "chat[0]"),
        ("a.meeting.Notes.b", "meeting.Notes"),
        ("meeting.notes.chat", "meeting.notes"),
        ("a.meetingnotes", "meetingnotes"),
        ("meeting.note.s", "meeting.note.s"),
        ("a._.b", "_"),
        ("chats", ""),
        ("a.meeting.b.notes", ""),
        ("notes", ""),
        ("__", ""),
    ],
)
def test_a_name_on_a_path(path: str, found: str) -> None:
    assert policy.name_on(path, ["chat", "meeting.notes", "_"]) == found


@pytest.mark.parametrize(
    ("name", "plain"), [("Chat-Messages", "chatmessages"), ("Chat2", "chat2"), ("_-", "_-")]
)
def test_a_name_without_case_and_separators(name: str, plain: str) -> None:
    """One of separators alone stays."""
    assert policy.normalised(name) == plain
