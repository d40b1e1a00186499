"""The grant: who may do what in which state, what is taken, and what a withdrawal destroys."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from collector.recording import grant as module
from collector.recording.grant import Grant
from collector.recording.names import MIXED, ROLES
from collector.recording.refusals import Refused
from collector.recording.states import (
    Announced,
    Closed,
    Erased,
    GrantedTrack,
    Member,
    Open,
    Paused,
    Requested,
    State,
)
from tests.recording.recorders import terms
from tests.support.rows import for_each

RECIPIENT = "age1" + "q" * 58
TERMS = terms(
    meeting="standup", kinds=frozenset({"audio", "chat"}), medium="picture", language="id"
)
NOTICE = "d" * 64


def announced(*members: str) -> Grant:
    """A grant of ``host`` with some members, at second 0, for a thousand seconds."""
    grant = Grant.request(TERMS, "host", 0.0, longest_seconds=1000.0)
    grant.announce([NOTICE, "e" * 64], 0.0)
    for member in members:
        grant.join(member, 0.0)
    return grant


def opened(*members: str) -> Grant:
    """A grant that is open, of which each of some members and the host stays."""
    grant = announced(*members)
    for member in ("host", *members):
        grant.choose(member, "stay", NOTICE, 0.0)
    grant.start("host", 0.0)
    return grant


def refused(call: Any, *arguments: Any) -> str:
    """The code of a refusal."""
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.code


def state(grant: Grant) -> State:
    """The state, which a type checker does not take for the one of before."""
    return grant.state


# -- states -------------------------------------------------------------------------------------


def test_the_way_of_a_recording() -> None:
    """Requested, announced, open, paused, open, closed, erased."""
    grant = Grant.request(TERMS, "host", 1.0, longest_seconds=1000.0)
    states = [grant.state]
    grant.announce([NOTICE], 2.0)
    states.append(grant.state)
    for second, step in enumerate((grant.start, grant.pause, grant.resume, grant.stop), 3):
        step("host", float(second))
        states.append(grant.state)
    grant.erase(7.0)
    assert [*states, grant.state] == [
        Requested(),
        Announced(),
        Open(),
        Paused(4.0, "host"),
        Open(),
        Closed(6.0, "stopped"),
        Erased(),
    ]


def test_a_grant_is_announced_once_and_with_digests() -> None:
    """Anything else is a fault of the caller."""
    grant = Grant.request(TERMS, "host", 0.0, longest_seconds=1000.0)
    with pytest.raises(ValueError, match="announced once"):
        grant.announce([], 0.0)
    assert refused(grant.start, "host", 0.0) == "announced"
    assert refused(grant.choose, "host", "stay", NOTICE, 0.0) == "notice"
    grant.announce([NOTICE], 0.0)
    with pytest.raises(ValueError, match="announced once"):
        grant.announce([NOTICE], 0.0)


@for_each("call", ["start", "pause", "resume", "stop"])
def test_only_the_host_decides(call: str) -> None:
    """A participant is refused in every state, and nothing changes."""
    for grant in (announced("ann"), opened("ann")):
        before = grant.state
        assert refused(getattr(grant, call), "ann", 1.0) == "forbidden"
        assert grant.state == before


def test_what_is_not_started_is_not_paused() -> None:
    """The host learns to start first, or to resume what is paused."""
    grant = announced()
    assert refused(grant.pause, "host", 0.0) == "announced"
    assert refused(grant.resume, "host", 0.0) == "announced"
    grant.start("host", 0.0)
    grant.start("host", 0.0)
    grant.pause("host", 1.0)
    grant.pause("host", 2.0)
    assert state(grant) == Paused(1.0, "host")
    assert refused(grant.start, "host", 2.0) == "paused"


def test_after_the_close_nothing_opens_again() -> None:
    """Every call but those of reading, withdrawing and erasing is refused."""
    grant = opened("ann")
    grant.stop("host", 5.0)
    for call in (grant.start, grant.pause, grant.resume, grant.stop, grant.accept):
        assert refused(call, "host", 6.0) == "closed"
    assert refused(grant.join, "bob", 6.0) == "closed"
    assert refused(grant.handover, "host", "ann", 6.0) == "closed"
    assert refused(grant.admit, "ann", "participant", "t", "ann", "audio", 6.0) == "closed"
    assert refused(grant.choose, "ann", "stay", NOTICE, 6.0) == "closed"
    grant.depart("host", 6.0)
    grant.close("expired", 7.0)
    assert state(grant) == Closed(5.0, "stopped")


def test_reading_and_erasing_wait_for_the_close() -> None:
    grant = opened("ann")
    grant.admit("ann", "participant", "t", "ann", "audio", 1.0)
    assert refused(grant.check_readable, 1.0) == "open"
    assert refused(grant.erase, 1.0) == "open"
    grant.stop("host", 2.0)
    grant.check_readable(3.0)
    for reader, role in (("host", "host"), ("viewer", "viewer"), ("auditor", "auditor")):
        grant.check_reader(reader, role, 3.0)
    assert refused(grant.check_reader, "other", "host", 3.0) == "forbidden"
    grant.erase(4.0)
    grant.erase(5.0)
    assert refused(grant.check_readable, 5.0) == "erased"
    assert refused(grant.check_reader, "viewer", "viewer", 5.0) == "erased"
    assert refused(grant.withdraw, "ann", 5.0) == "erased"
    assert "ann" not in json.dumps(grant.snapshot())


# -- time and absence ---------------------------------------------------------------------------


def test_an_absent_host_pauses_at_once_and_closes_after_a_minute() -> None:
    """It closes at the second it was due to, however late the recorder looks."""
    grant = opened("ann")
    grant.depart("host", 10.0)
    assert state(grant) == Paused(10.0, "host_absent")
    assert refused(grant.admit, "ann", "participant", "t", "ann", "audio", 11.0) == "paused"
    assert refused(grant.resume, "host", 11.0) == "left"
    assert not grant.tick(69.9)
    assert grant.tick(500.0)
    assert state(grant) == Closed(70.0, "host_absent")
    grant.erase(500.0)
    assert state(grant) == Erased()


def test_what_closes_a_recording_whose_host_is_away() -> None:
    """The host, who need not be present for it; time, which also lets it be erased; and of two
    reasons at one moment the age of the recording."""
    stopped, old, both = opened(), opened(), opened()
    stopped.depart("host", 10.0)
    stopped.stop("host", 11.0)
    assert state(stopped) == Closed(11.0, "stopped")
    old.erase(2000.0)
    assert state(old) == Erased()
    both.depart("host", 940.0)
    both.tick(2000.0)
    assert state(both) == Closed(1000.0, "expired")


def test_a_host_who_comes_back_resumes() -> None:
    """The recording stays paused until then."""
    grant = opened("ann")
    grant.pause("host", 5.0)
    grant.depart("host", 10.0)
    grant.join("host", 60.0)
    grant.tick(200.0)
    assert state(grant) == Paused(5.0, "host")
    grant.resume("host", 200.0)
    grant.admit("ann", "participant", "t", "ann", "audio", 200.0)


def test_a_host_who_departs_before_the_start_closes_too() -> None:
    """There is nothing to pause then."""
    grant = announced("ann")
    grant.depart("host", 10.0)
    assert state(grant) == Announced()
    assert grant.tick(70.0)
    assert state(grant) == Closed(70.0, "host_absent")


def test_the_heir_goes_on() -> None:
    """An heir who accepts within the minute is the host; the former one is a member as others."""
    grant = opened("ann", "bob")
    grant.handover("host", "ann", 1.0)
    grant.depart("host", 10.0)
    assert refused(grant.accept, "bob", 20.0) == "handover"
    grant.accept("ann", 20.0)
    assert (grant.host, grant.heir, grant.state) == ("ann", None, Paused(10.0, "host"))
    grant.resume("ann", 100.0)
    grant.join("host", 101.0)
    assert refused(grant.stop, "host", 101.0) == "forbidden"
    assert refused(grant.accept, "ann", 101.0) == "handover"
    grant.stop("ann", 102.0)


def test_a_handover_needs_two_who_are_present() -> None:
    """An absent member cannot be named, and an heir who has departed cannot accept."""
    grant = opened("ann", "bob")
    assert refused(grant.handover, "host", "zoe", 1.0) == "left"
    assert refused(grant.handover, "ann", "bob", 1.0) == "forbidden"
    grant.handover("host", "ann", 1.0)
    grant.depart("ann", 2.0)
    assert refused(grant.accept, "ann", 3.0) == "left"
    grant.join("ann", 4.0)
    grant.handover("host", "host", 5.0)
    assert refused(grant.accept, "ann", 6.0) == "handover"


def test_a_recording_does_not_last_for_ever() -> None:
    """It closes at its longest, paused or not, and an absence that would end later counts not."""
    for grant in (announced(), opened()):
        grant.depart("host", 990.0)
        assert refused(grant.resume, "host", 2000.0) == "closed"
        assert state(grant) == Closed(1000.0, "expired")


def test_what_has_expired_is_not_announced() -> None:
    """A grant that nobody announced closes as others do."""
    grant = Grant.request(TERMS, "host", 0.0, longest_seconds=1000.0)
    assert refused(grant.announce, [NOTICE], 1000.0) == "closed"
    assert state(grant) == Closed(1000.0, "expired")


def test_time_never_goes_back() -> None:
    grant = opened("ann")
    grant.tick(900.0)
    grant.pause("host", 5.0)
    assert state(grant) == Paused(900.0, "host")
    grant.depart("host", 6.0)
    grant.tick(-1e9)
    assert grant.tick(960.0)


# -- members ------------------------------------------------------------------------------------


def test_a_late_joiner_is_pending_and_stops_the_mixed_track() -> None:
    """Nothing mixed is taken until the late joiner stays; those who stayed are taken singly."""
    grant = opened("ann")
    grant.admit("egress", "media", "mix", MIXED, "audio", 1.0)
    grant.join("bob", 2.0)
    mixed = ("egress", "media", "mix", MIXED, "audio", 3.0)
    assert refused(grant.admit, *mixed) == "pending"
    assert refused(grant.admit, "egress", "media", "b", "bob", "audio", 3.0) == "pending"
    grant.admit("egress", "media", "a", "ann", "audio", 3.0)
    grant.choose("bob", "stay", NOTICE, 3.0)
    grant.admit(*mixed)
    grant.choose("bob", "leave", NOTICE, 4.0)
    assert refused(grant.admit, *mixed) == "left"


def test_a_telephone_guest_stays_pending() -> None:
    """A member without a token cannot choose: a grant knows no way to choose for another."""
    grant = opened()
    grant.join("phone", 1.0)
    assert refused(grant.admit, "egress", "media", "p", "phone", "audio", 2.0) == "pending"
    assert grant.members["phone"] == Member("pending")


def test_a_choice_needs_presence_a_notice_and_is_final_when_it_is_to_leave() -> None:
    """Each refusal says what is missing."""
    grant = announced("ann")
    assert refused(grant.choose, "ann", "stay", "f" * 64, 1.0) == "notice"
    assert refused(grant.choose, "ann", "pending", NOTICE, 1.0) == "malformed"
    assert refused(grant.choose, "bob", "stay", NOTICE, 1.0) == "left"
    assert refused(grant.choose, "bob", "leave", NOTICE, 1.0) == "left"
    assert grant.choose("ann", "leave", "e" * 64, 1.0) == frozenset()
    assert refused(grant.choose, "ann", "stay", NOTICE, 1.0) == "left"
    grant.depart("ann", 2.0)
    grant.join("ann", 3.0)
    assert refused(grant.choose, "ann", "stay", NOTICE, 3.0) == "left"


def test_a_member_who_comes_back_has_the_choice_of_before() -> None:
    grant = opened("ann")
    grant.join("bob", 1.0)
    grant.depart("ann", 1.0)
    grant.depart("bob", 1.0)
    grant.depart("zoe", 1.0)
    assert refused(grant.admit, "ann", "participant", "t", "ann", "audio", 2.0) == "left"
    assert dict(grant.members) == {"host": Member("stay"), "ann": Member("stay", 1.0)}
    grant.join("ann", 3.0)
    grant.admit("ann", "participant", "t", "ann", "audio", 4.0)


def test_a_withdrawal_destroys_the_members_tracks_and_mixed_ones_and_no_other() -> None:
    grant = opened("ann", "bob")
    for track, owner in (("a1", "ann"), ("a2", "ann"), ("b", "bob"), ("m", MIXED)):
        grant.admit("egress", "media", track, owner, "audio", 1.0)
    grant.depart("ann", 2.0)
    grant.stop("host", 3.0)
    assert grant.withdraw("ann", 4.0) == {"a1", "a2", "m"}
    assert grant.withdraw("ann", 5.0) == frozenset()
    assert grant.choose("bob", "leave", NOTICE, 6.0) == {"b"}
    assert {name for name, track in grant.tracks.items() if track.is_destroyed} == set(grant.tracks)
    assert refused(grant.withdraw, "zoe", 7.0) == "left"


def test_a_destroyed_track_takes_no_chunk_again() -> None:
    grant = opened("ann")
    grant.admit("egress", "media", "m", MIXED, "audio", 1.0)
    assert grant.choose("ann", "leave", NOTICE, 2.0) == {"m"}
    for owner in (MIXED, "ann"):
        assert refused(grant.admit, "egress", "media", "m2", owner, "audio", 2.0) == "left"
    grant.depart("ann", 3.0)
    assert refused(grant.admit, "egress", "media", "m", MIXED, "audio", 4.0) == "left"
    grant.admit("egress", "media", "m2", MIXED, "audio", 4.0)
    assert grant.withdraw("ann", 5.0) == frozenset()


# -- content ------------------------------------------------------------------------------------


def test_nothing_is_taken_before_the_start() -> None:
    """A choice to stay does not open the recording."""
    grant = announced()
    grant.choose("host", "stay", NOTICE, 0.0)
    assert refused(grant.admit, "host", "host", "t", "host", "audio", 1.0) == "announced"


@for_each("role", sorted(ROLES))
def test_who_delivers(role: str) -> None:
    """Owners deliver their own tracks, media any, and other roles none."""
    may_own, may_all = role in ("host", "participant", "media"), role == "media"
    for sender, owner, code in (
        ("ann", "ann", None if may_own else "forbidden"),
        ("ann", "bob", None if may_all else "owner" if may_own else "forbidden"),
        ("ann", MIXED, None if may_all else "forbidden"),
    ):
        grant = opened("ann", "bob")
        if code is None:
            grant.admit(sender, role, "t", owner, "audio", 1.0)
            assert grant.tracks == {"t": GrantedTrack(owner, "audio")}
        else:
            assert refused(grant.admit, sender, role, "t", owner, "audio", 1.0) == code
            assert grant.tracks == {}


def test_the_first_chunk_fixes_owner_and_kind() -> None:
    grant = opened("ann", "bob")
    grant.admit("ann", "participant", "t", "ann", "audio", 1.0)
    assert refused(grant.admit, "bob", "participant", "t", "bob", "audio", 2.0) == "owner"
    assert refused(grant.admit, "egress", "media", "t", MIXED, "audio", 2.0) == "owner"
    assert refused(grant.admit, "ann", "participant", "t", "ann", "chat", 2.0) == "kind"
    assert refused(grant.admit, "ann", "participant", "u", "ann", "video", 2.0) == "kind"
    assert refused(grant.admit, "ann", "participant", "../t", "ann", "audio", 2.0) == "malformed"


def test_members_and_tracks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform or a sender cannot make a grant grow for ever."""
    grant = opened("ann")
    for number in range(256):
        grant.admit("ann", "participant", f"{number}", "ann", "audio", 1.0)
    assert refused(grant.admit, "ann", "participant", "more", "ann", "audio", 1.0) == "too_large"
    for number in range(1_998):
        grant.join(f"m{number}", 1.0)
    assert refused(grant.join, "more", 1.0) == "too_large"
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    monkeypatch.setattr(module, "MAX_TRACKS", 3)
    monkeypatch.setattr(module, "MAX_OWN_TRACKS", 2)
    grant = opened("ann", "bob")
    assert refused(grant.join, "cas", 1.0) == "too_large"
    grant.join("ann", 1.0)
    for track in ("1", "2"):
        grant.admit("ann", "participant", track, "ann", "audio", 1.0)
    assert refused(grant.admit, "ann", "participant", "3", "ann", "audio", 1.0) == "too_large"
    grant.admit("bob", "participant", "4", "bob", "audio", 1.0)
    assert refused(grant.admit, "bob", "participant", "5", "bob", "audio", 1.0) == "too_large"
    grant.admit("ann", "participant", "1", "ann", "audio", 1.0)


# -- terms and snapshots ------------------------------------------------------------------------


@for_each(
    "changes",
    [
        {"meeting": "../x"},
        {"storage": "usb"},
        {"storage": "local"},
        {"recipient": RECIPIENT},
        {"storage": "local", "recipient": "age1short"},
        {"storage": "local", "recipient": "ssh-ed25519 AAAA"},
        {"kinds": frozenset()},
        {"kinds": frozenset({"smell"})},
        {"retention": 0.0},
        {"retention": float("inf")},
        {"retention": float("nan")},
        {"medium": "braille"},
        {"language": "fr"},
    ],
)
def test_terms_that_are_not_valid_cannot_be_made(changes: dict[str, Any]) -> None:
    """They are refused by one code."""
    assert refused(lambda: replace(TERMS, **changes)) == "terms"
    assert replace(TERMS, storage="local", recipient=RECIPIENT).storage == "local"


@for_each("name", ["", "a/b", "..", "é", "x" * 65, "a\n", MIXED])
def test_a_pseudonym_is_a_name(name: str) -> None:
    with pytest.raises(Refused, match="malformed"):
        Grant.request(TERMS, name, 0.0, longest_seconds=1.0)
    assert refused(announced().join, name, 0.0) == "malformed"


def test_a_restored_grant_is_the_same() -> None:
    grant = opened("ann")
    grant.admit("ann", "participant", "t", "ann", "audio", 7.0)
    grant.handover("host", "ann", 8.0)
    again = Grant.restored(json.loads(json.dumps(grant.snapshot())))
    assert again.snapshot() == grant.snapshot()
    again.close("restarted", 5.0)
    assert again.state == Closed(8.0, "restarted")
    for step in (again.tick, again.erase):
        step(9.0)
        assert Grant.restored(again.snapshot()).snapshot() == again.snapshot()


def test_a_revision_tells_that_something_changed() -> None:
    """Time alone and refusals change nothing that has to be stored."""
    grant = opened("ann")
    grant.admit("ann", "participant", "t", "ann", "audio", 1.0)
    revision = grant.revision
    grant.tick(2.0)
    grant.admit("ann", "participant", "t", "ann", "audio", 3.0)
    assert grant.choose("ann", "stay", NOTICE, 3.0) == frozenset()
    grant.join("ann", 3.0)
    assert refused(grant.start, "ann", 4.0) == "forbidden"
    assert grant.revision == revision
    grant.pause("host", 5.0)
    assert grant.revision == revision + 1
    for change in (
        lambda: grant.join("bob", 6.0),
        lambda: grant.depart("bob", 6.0),
        lambda: grant.handover("host", "ann", 6.0),
        lambda: grant.accept("ann", 6.0),
        lambda: grant.withdraw("ann", 6.0),
    ):
        revision = grant.revision
        change()
        assert grant.revision > revision
