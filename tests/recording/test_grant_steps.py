"""Any interleaving of hosts, members, choices, chunks, pauses, handovers, clock jumps and crashes:
the readable content is exactly the chunks accepted under consent.

``COLLECTOR_GRANT_STEPS`` is how many steps are tried at least (1,000 unless it says otherwise).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from collector.recording.grant import ABSENCE_SECONDS, Grant
from collector.recording.names import KINDS, MIXED, ROLES
from collector.recording.refusals import Refused
from collector.recording.states import Closed
from tests.recording.grant_model import ENDS, LONGEST, Model
from tests.recording.recorders import terms

_STEPS = int(os.environ.get("COLLECTOR_GRANT_STEPS", "1000"))
_RUN = 50
"""Steps of one run."""
_DIGESTS = ("a" * 64, "b" * 64)
_TERMS = terms(kinds=frozenset({"audio", "video"}))

PSEUDONYMS = ["ann", "bob", "cas", "dee"]
pseudonyms = st.sampled_from(PSEUDONYMS)
owners = st.sampled_from([*PSEUDONYMS, MIXED])
stages = st.sampled_from([3] * 9 + [2, 2, 1, 1, 0])
"""How far a recording gets at once: requested, announced, chosen by some, started."""
moments = st.sampled_from([0.0, 0.25, 1.0])
kills = st.sampled_from([None] * 12 + ["before", "saved", "stored"])
"""Where the process is killed while a chunk comes: before anything, or after a step."""
jumps = st.sampled_from([30.0, ABSENCE_SECONDS - 1, ABSENCE_SECONDS, LONGEST, -30.0, -1e6])


class GrantSteps(RuleBasedStateMachine):
    """A grant, its stored snapshot and the chunks stored, beside the model of the same.

    The order is a recorder's: the call, the snapshot, what follows from it (a chunk is stored, or
    tracks are destroyed), the answer. A crash comes between two of these.
    """

    steps = 0

    @initialize(host=pseudonyms, stage=stages, staying=st.sets(pseudonyms, min_size=1))
    def request(self, host: str, stage: int, staying: set[str]) -> None:
        """A host asks; most recordings get further before anything else happens."""
        self.clock = 1_000_000.0
        self.grant = Grant.request(_TERMS, host, self.clock, longest_seconds=LONGEST)
        self.model = Model(host, self.clock)
        self.content: list[tuple[str, int]] = []
        self.accepted: list[tuple[str, int]] = []
        self.heard: list[frozenset[str]] = []
        self.saved: tuple[int, str, Model] | None = None
        self.save()
        if stage > 0:
            self.announce(0.0)
        for who in sorted(staying) if stage > 1 else []:
            self.carry_out("join", who, 0.0)
            self.choose(who, "stay", _DIGESTS[0], 0.0, is_killed=False)
        if stage > 2:
            self.carry_out("start", host, 0.0)

    def save(self) -> None:
        """Store the grant, where it has changed."""
        if self.saved is None or self.saved[0] != self.grant.revision:
            copy = Model(self.model.host, self.model.requested)
            copy.time, copy.events = self.model.time, list(self.model.events)
            self.saved = (self.grant.revision, json.dumps(self.grant.snapshot()), copy)

    def call(self, moment: float, against: Callable[[], set[str]], do: Callable[[], Any]) -> Any:
        """Make a call a moment later, and return what it does, or ``None`` where it is refused, as
        the model says."""
        GrantSteps.steps += 1
        self.clock += moment
        self.model.pass_time(self.clock)
        reasons = against()
        code: str | None = None
        result: Any = None
        try:
            result = do()
        except Refused as refused:
            code = refused.code
        assert code in reasons if reasons else code is None
        return result or frozenset() if code is None else None

    def carry_out(self, call: str, who: str, moment: float, more: Any = None) -> frozenset[str]:
        """Make a member's call, and put it on the model's list unless it is refused."""
        arguments = () if more is None else (more,)
        result = self.call(
            moment,
            lambda: self.model.against(call, who, more),
            lambda: getattr(self.grant, call)(who, *arguments, self.clock),
        )
        if result is not None:
            if call == "stop":
                self.model.add("closed", more="stopped")
            elif (call, self.model.phase) not in (("start", "open"), ("pause", "paused")):
                self.model.add(call, who, more)
        self.save()
        return result or frozenset()

    # -- the host and the platform ---------------------------------------------------------------

    @precondition(lambda self: self.model.phase == "requested")
    @rule(moment=moments)
    def announce(self, moment: float) -> None:
        """The recorder has the notices."""
        done = self.call(
            moment,
            lambda: {"closed"} if self.model.phase == "closed" else set(),
            lambda: self.grant.announce(_DIGESTS, self.clock),
        )
        if done is not None:
            self.model.add("announced")
        self.save()

    @rule(who=pseudonyms, moment=moments)
    def join(self, who: str, moment: float) -> None:
        """The platform adds a member to the roster."""
        self.carry_out("join", who, moment)

    @rule(who=pseudonyms, moment=moments)
    def depart(self, who: str, moment: float) -> None:
        """The platform takes a member off the roster."""
        done = self.call(moment, set, lambda: self.grant.depart(who, self.clock))
        assert done is not None
        if self.model.phase not in ENDS and self.model.is_present(who):
            self.model.add("depart", who)
        self.save()

    @rule(moment=moments, call=st.sampled_from(["start", "resume", "resume", "resume", "pause"]))
    def host_controls(self, moment: float, call: str) -> None:
        """The host starts, pauses or resumes."""
        self.carry_out(call, self.model.current_host, moment)

    @rule(
        who=pseudonyms, moment=moments, call=st.sampled_from(["start", "pause", "resume", "stop"])
    )
    def anybody_controls(self, who: str, moment: float, call: str) -> None:
        """A member, perhaps the host, tries what only the host may do."""
        self.carry_out(call, who, moment)

    @rule(to=pseudonyms, moment=moments)
    def handover(self, to: str, moment: float) -> None:
        """The host names an heir."""
        self.carry_out("handover", self.model.current_host, moment, to)

    @rule(who=st.none() | pseudonyms, moment=moments)
    def accept(self, who: str | None, moment: float) -> None:
        """The heir or a member accepts a handover."""
        self.carry_out("accept", who or self.model.heir or "ann", moment)

    @precondition(lambda self: self.model.phase in ENDS)
    @rule(host=pseudonyms, stage=stages, staying=st.sets(pseudonyms, min_size=1), moment=moments)
    def erase(self, host: str, stage: int, staying: set[str], moment: float) -> None:
        """The host erases, and another asks for a recording."""
        self.call(moment, set, lambda: self.grant.erase(self.clock))
        assert (self.grant.members, self.grant.tracks, self.grant.heir) == ({}, {}, None)
        self.model.add("erased")
        self.save()
        for call in ("join", "withdraw"):
            self.carry_out(call, "ann", moment)
        self.request(host, stage, staying)

    # -- members and content ---------------------------------------------------------------------

    @rule(who=pseudonyms, moment=moments)
    def stay(self, who: str, moment: float) -> None:
        """A member stays."""
        self.choose(who, "stay", _DIGESTS[1], moment, is_killed=False)

    @rule(moment=moments)
    def proceed(self, moment: float) -> None:
        """The host comes back where absent, and goes on."""
        host = self.model.current_host
        if not self.model.is_present(host):
            self.join(host, moment)
        self.carry_out("resume" if self.model.phase == "paused" else "start", host, 0.0)

    @precondition(lambda self: len(self.accepted) > 1)
    @rule(who=pseudonyms, moment=moments)
    def leave_for_good(self, who: str, moment: float) -> None:
        """A member leaves the recording and then the meeting, and the others go on."""
        self.choose(who, "leave", _DIGESTS[0], moment, is_killed=False)
        self.depart(who, moment)
        self.mixed_chunk(1, moment, None)

    @rule(moment=moments)
    def all_stay(self, moment: float) -> None:
        """Each member who is present and has not chosen stays."""
        for who in PSEUDONYMS:
            if self.model.is_present(who) and self.model.choice(who) == "pending":
                self.choose(who, "stay", _DIGESTS[1], moment, is_killed=False)
        self.mixed_chunk(1, moment, None)

    @rule(
        who=pseudonyms,
        choice=st.sampled_from(["stay"] * 5 + ["leave"]),
        digest=st.sampled_from([*_DIGESTS, "c" * 64]),
        moment=moments,
        is_killed=st.sampled_from([False, False, True]),
    )
    def choose(self, who: str, choice: Any, digest: str, moment: float, is_killed: bool) -> None:
        """A member chooses, with the digest of a notice or with another."""
        destroyed = self.call(
            moment,
            lambda: self.model.against(choice, who, digest in _DIGESTS),
            lambda: self.grant.choose(who, choice, digest, self.clock),
        )
        self.finish_choice(who, choice, destroyed, is_killed=is_killed)

    @precondition(lambda self: self.model.phase in ENDS or len(self.accepted) > 4)
    @rule(who=pseudonyms, moment=moments, is_killed=st.sampled_from([False, False, True]))
    def withdraw(self, who: str, moment: float, is_killed: bool) -> None:
        """A member withdraws, at any time."""
        destroyed = self.call(
            moment,
            lambda: self.model.against("withdraw", who),
            lambda: self.grant.withdraw(who, self.clock),
        )
        self.finish_choice(who, "leave", destroyed, is_killed=is_killed)

    def finish_choice(
        self, who: str, choice: str, destroyed: frozenset[str] | None, *, is_killed: bool
    ) -> None:
        """Destroy the tracks that the choice says, unless the process is killed before."""
        if destroyed is not None:
            before = self.model.destroyed
            self.model.add(choice, who)
            assert destroyed == self.model.destroyed - before
        self.save()
        if destroyed and is_killed:
            self.restart()
        elif destroyed:
            self.destroy(destroyed)

    def destroy(self, tracks: frozenset[str]) -> None:
        """Destroy what is stored of some tracks."""
        self.content = [chunk for chunk in self.content if chunk[0] not in tracks]

    @rule(place=st.integers(0, 3), number=st.sampled_from([1, 1, 2]), moment=moments)
    def ordinary_chunk(self, place: int, number: int, moment: float) -> None:
        """Media delivers a chunk of a member, one who stays where there is one."""
        stays = [who for who in PSEUDONYMS if self.model.choice(who) == "stay"]
        owner = (stays or PSEUDONYMS)[place % len(stays or PSEUDONYMS)]
        self.chunk(("media", "media", f"t-{owner}-{number}", owner, "audio"), moment)

    @rule(number=st.sampled_from([1, 2]), moment=moments, killed=kills)
    def mixed_chunk(self, number: int, moment: float, killed: str | None) -> None:
        """Media delivers a chunk of a mixed track."""
        self.chunk(("media", "media", f"t-mixed-{number}", MIXED, "audio"), moment, killed)

    @rule(
        facts=st.tuples(
            owners,
            st.sampled_from(["media", "media", "participant", *sorted(ROLES)]),
            st.sampled_from(["t-ann-1", "t-bob-1", "t-cas-1", "t-mixed-1", "other"]),
            owners,
            st.sampled_from([*["audio"] * 5, *sorted(KINDS)]),
        ),
        is_own=st.booleans(),
        moment=moments,
        killed=kills,
    )
    def any_chunk(
        self, facts: tuple[str, str, str, str, str], is_own: bool, moment: float, killed: str | None
    ) -> None:
        """Some caller sends a chunk of a track, mostly one of the caller's own."""
        sender, role, track, owner, kind = facts
        if is_own:
            track, owner = f"t-{sender}-1", sender
        self.chunk((sender, role, track, owner, kind), moment, killed)

    def chunk(
        self, facts: tuple[str, str, str, str, str], moment: float, killed: str | None = None
    ) -> None:
        """A chunk comes; the process may be killed before the answer."""
        _, _, track, owner, kind = facts
        done = self.call(
            moment,
            lambda: self.model.against_chunk(*facts),
            lambda: self.grant.admit(*facts, self.clock),
        )
        if done is None:
            self.save()
            return
        if killed == "before":
            self.restart()
            return
        self.model.add("chunk", track, (owner, kind))
        self.save()
        if killed != "saved":
            self.content.append((track, len(self.accepted)))
            self.accepted.append((track, len(self.accepted)))
            self.heard.append(self.model.heard(owner))
        if killed:
            self.restart()

    @rule(
        who=st.none() | pseudonyms,
        role=st.sampled_from(["host", "host", "viewer", "auditor"]),
        moment=moments,
    )
    def read(self, who: str | None, role: str, moment: float) -> None:
        """A viewer, an auditor or a host of the meeting asks for the manifest, and the content."""
        reader = who or self.model.heir or self.model.current_host
        self.call(
            moment,
            lambda: self.model.against_reading(reader, role, is_content=False),
            lambda: self.grant.check_reader(reader, role, self.clock),
        )

        def open_content() -> None:
            self.grant.check_reader(reader, role, self.clock)
            self.grant.check_readable(self.clock)

        self.call(
            0.0, lambda: self.model.against_reading(reader, role, is_content=True), open_content
        )
        self.save()

    # -- time and crashes ------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.events) > 12 or self.model.phase == "paused")
    @rule(jump=jumps)
    def clock_jumps(self, jump: float) -> None:
        """The clock jumps, and the recorder's timer sees it; it stays back until it jumps on."""
        before = self.model.phase
        self.clock = jump + (max(self.clock, self.model.time) if jump > 0 else self.clock)
        self.model.pass_time(self.clock)
        assert self.grant.tick(self.clock) == (self.model.phase != before)
        self.save()

    @precondition(lambda self: len(self.model.events) > 12)
    @rule()
    def crash(self) -> None:
        """The process is killed, and starts again."""
        self.restart()

    def restart(self) -> None:
        """Go on from the stored snapshot; a recording that was not closed is closed."""
        assert self.saved is not None
        _, text, self.model = self.saved
        self.grant = Grant.restored(json.loads(text))
        self.grant.close("restarted", 0.0)
        if self.model.phase not in ENDS:
            self.model.add("closed", more="restarted")
        gone = frozenset(name for name, each in self.grant.tracks.items() if each.is_destroyed)
        self.destroy(gone)
        self.save()

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def states_agree(self) -> None:
        """The grant is in the state that the model says, for the same reason."""
        state, phase = self.grant.state, self.model.phase
        assert type(state).__name__.lower() == phase
        assert (self.grant.host, self.grant.heir) == (self.model.current_host, self.model.heir)
        if isinstance(state, Closed):
            closed = self.model.last("closed")
            assert closed is not None
            assert (state.at, state.reason) == (closed[0], closed[3])
        if phase == "open":
            assert self.grant.members[self.grant.host].is_present

    @invariant()
    def members_agree(self) -> None:
        """The grant knows the members that the model knows, with their choices."""
        if self.model.phase != "erased":
            known = {event[2] for event in self.model.events if event[1] == "join"}
            assert {name: (m.choice, m.is_present) for name, m in self.grant.members.items()} == {
                name: (self.model.choice(name), self.model.is_present(name))
                for name in known
                if self.model.is_known(name)
            }

    @invariant()
    def content_is_what_was_consented_to(self) -> None:
        """What is stored are the accepted chunks, but for the tracks that withdrawals destroyed;
        each member who is heard in one stays."""
        destroyed = self.model.destroyed
        assert self.content == [chunk for chunk in self.accepted if chunk[0] not in destroyed]
        assert all(
            self.model.choice(who) == "stay"
            for _, number in self.content
            for who in self.heard[number]
        )


def test_any_order_of_steps() -> None:
    """The laws hold at every step."""
    GrantSteps.steps = 0
    runs = settings(max_examples=max(1, _STEPS // _RUN), stateful_step_count=_RUN)
    while GrantSteps.steps < _STEPS:
        run_state_machine_as_test(GrantSteps, settings=runs)
    print(f"{GrantSteps.steps} calls of a grant")
