"""Any history of a recorder, with kills at any system call: the readable content is exactly the
chunks accepted under consent, an acknowledged chunk is there, and a crash closes the grant.

The recorder is a real one, in a process and on a disk, without or with a bucket. Each answer is one
that the model gives, and what it acknowledges is synced. After each start and at the end all is
looked at: what viewers read, keys and files, the ledger, and every byte on the disk.
``COLLECTOR_HISTORY_STEPS`` is how many steps are tried at least (80 unless it says otherwise),
half of them without a bucket; where it is set, a history that fails is shrunk, which takes minutes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pyrage
from hypothesis import Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from collector.ledger import opened
from collector.recording import Caller, NewChunk
from collector.recording.names import KINDS, MIXED, ROLES
from collector.testing import scan
from tests.conftest import required
from tests.recording.grant_model import ENDS, Model
from tests.recording.recorder_model import Chunk, Outcome, RecordingModel, restarted
from tests.recording.recorder_process import (
    LOCAL,
    LONGEST,
    Answer,
    Content,
    Kill,
    Killed,
    RecorderProcess,
    Unsupervised,
)
from tests.recording.recorders import terms
from tests.support.rows import for_each

_STEPS = int(os.environ.get("COLLECTOR_HISTORY_STEPS", "80")) // 2
_RUN = 50
"""Steps of one history."""
_RETENTION = 5000.0
_MOST_RECORDINGS = 10
_CONTENT = b"Content-7f3a91c2e4"
_NAME = "Pseudonym-5b0d"
PSEUDONYMS = [f"{name}-{_NAME}" for name in ("ann", "bob", "cas", "dee")]


def _track(who: str, number: str = "1") -> str:
    """Return the name of a member's track, which has no pseudonym in it."""
    return f"t-{who[:3]}-{number}"


pseudonyms = st.sampled_from(PSEUDONYMS)
places = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 2, 3])
"""Which recording: 0 is the newest."""
moments = st.sampled_from([0.0, 0.25, 1.0])
jumps = st.sampled_from([1.0, 30.0, 59.0, 60.0, LONGEST, _RETENTION, LOCAL, -30.0, -1e6])
_parts = st.sampled_from([0.0, 0.0, 0.5])
starts = st.just(()) | st.tuples(
    st.builds(Kill, st.integers(1, 150), _parts, st.just(False), st.just(()))
    | st.builds(Kill, st.integers(1, 30), st.just(0.0), st.just(True), st.just(()))
)
"""Kills while it starts."""
kills = st.one_of(
    *[st.none()] * 14,
    st.builds(Kill, st.integers(0, 12) | st.integers(0, 60), _parts, st.just(False), starts)
    | st.builds(Kill, st.integers(1, 10), st.just(0.0), st.just(True), starts),
)
numbers = st.sampled_from(["next"] * 3 + ["again", "other", "later"])
"""Which number a chunk has: the next one, that of a chunk that is there, with the same or other
content, or one too high."""


_Place = tuple[str | None, int, bool]


@dataclass
class Recording:
    """A recording, its notice, its host's key, and what may be true of it."""

    id: str
    meeting: str
    identity: pyrage.x25519.Identity | None
    digest: str
    models: list[RecordingModel]

    def is_in(self, phases: Sequence[str]) -> bool:
        """Return whether it is certainly in one of these states."""
        return all(each.grant.phase in phases for each in self.models)

    def is_gone(self, track: str) -> bool:
        """Return whether nothing of a track is to be left."""
        return all(
            each.grant.phase == "erased" or track in each.grant.destroyed for each in self.models
        )


class RecorderHistories(RuleBasedStateMachine):
    """A recorder's process beside the models of its recordings."""

    steps: ClassVar[Counter[str]] = Counter()
    has_bucket = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="histories-"))
        self.directory, self.bucket = self.folder / "recorder", None
        if self.has_bucket:
            (self.folder / "bucket").mkdir()
            self.bucket = (self.folder / "bucket").as_uri()
        self.now = 1_800_000_000.0
        self.recordings: list[Recording] = []
        self.sent = 0
        self.noted: Counter[tuple[str, str]] = Counter()
        self.wrapped: dict[tuple[str, str], set[bytes]] = {}
        self.masters: set[bytes] = set()
        self.process: RecorderProcess | None = None

    def teardown(self) -> None:
        """All withdraw, and nothing is left of anybody."""
        try:
            if self.process is not None:
                self.restart(None)
                for each in self.recordings:
                    for who in PSEUDONYMS:
                        self.asked(each, "withdraw", who, None)
                self.look_at_all()
                assert not any(model.content for each in self.recordings for model in each.models)
                assert scan(self.folder, [_CONTENT.decode(), _NAME]) == []
        finally:
            if self.process is not None:
                self.process.kill()
            shutil.rmtree(self.folder)

    # -- the process -----------------------------------------------------------------------------

    @property
    def running(self) -> RecorderProcess:
        """Return the process."""
        assert self.process is not None
        return self.process

    def start(self, kills: tuple[Kill, ...]) -> None:
        """Start the process, which may be killed meanwhile, and look at everything."""
        self.process = None
        for kill in [*kills, None]:
            RecorderHistories.steps["starts"] += 1
            try:
                self.process = RecorderProcess(
                    self.directory, self.now, bucket=self.bucket, kill=kill
                )
                break
            except Killed as killed:
                note(f"while it starts, {killed}")
                RecorderHistories.steps["kills"] += 1
        self.look_at_all()

    def crashed(self, killed: Killed) -> None:
        """Start again after a kill."""
        note(f"killed {killed}")
        RecorderHistories.steps["kills"] += 1
        for each in self.recordings:
            each.models = restarted(each.models, self.now, is_killed=True)
        self.start(killed.kill.then)

    def ask(self, what: str, *values: Any, kill: Kill | None = None) -> Answer:
        """Have the recorder do something, and remember keys before."""
        RecorderHistories.steps["calls"] += 1
        self.remember()
        return self.running.call(self.now, what, *values, kill=kill)

    def call(
        self,
        each: Recording,
        predict: Callable[[RecordingModel], Outcome],
        what: str,
        *values: Any,
        kill: Kill | None = None,
    ) -> Answer | None:
        """Make a call about a recording, and return the answer, which is that of a model, or
        ``None`` after a kill."""
        outcomes = [(before, predict(before)) for before in each.models]
        try:
            answer = self.ask(what, *values, kill=kill)
        except Killed as killed:
            each.models = [
                model for before, o in outcomes for model in (before, *o.between, o.after)
            ]
            self.crashed(killed)
            return None
        each.models = [o.after for _, o in outcomes if _explains(o, answer)]
        assert each.models, (what, answer, [outcome[:2] for _, outcome in outcomes])
        return answer

    # -- rules: recordings ------------------------------------------------------------------------

    @initialize(
        kills=starts,
        host=pseudonyms,
        is_local=st.booleans(),
        staying=st.sets(pseudonyms, min_size=2),
    )
    def begin(self, kills: tuple[Kill, ...], host: str, is_local: bool, staying: set[str]) -> None:
        """The directory is made, and a first recording."""
        self.start(kills)
        self.record(host, "m", is_local, staying, None)

    @rule(
        host=pseudonyms,
        meeting=st.sampled_from("mn"),
        is_local=st.booleans(),
        staying=st.sets(pseudonyms, min_size=2),
        kill=kills,
    )
    def record(
        self, host: str, meeting: str, is_local: bool, staying: set[str], kill: Kill | None
    ) -> None:
        """A host asks for a recording, some choose to stay, the host starts, and content comes."""
        if len(self.recordings) >= _MOST_RECORDINGS:
            return
        identity = pyrage.x25519.Identity.generate() if is_local else None
        recipient = None if identity is None else str(identity.to_public())
        chosen = terms(
            meeting=meeting,
            storage="local" if is_local else "cloud",
            recipient=recipient,
            kinds=frozenset({"audio", "video"}),
            retention=_RETENTION,
        )
        grant = Model(host, self.now)
        grant.add("announced")
        retention = min(_RETENTION, LOCAL) if is_local else _RETENTION
        model = RecordingModel(grant, is_local=is_local, retention=retention)
        before = self.ids()
        try:
            answer = self.ask("request", _caller("host", host, meeting), chosen, kill=kill)
        except Killed as killed:
            for new in self.ids() - before:
                self.recordings.append(Recording(new, meeting, identity, "", [model]))
            self.crashed(killed)
            return
        assert answer.code is None
        made = Recording(answer.result[0], meeting, identity, answer.result[1], [model])
        self.recordings.append(made)
        self.noted[made.id, "request"] += 1
        for who in sorted(staying):
            self.asked(made, "join", who, None)
            self.asked(made, "stay", who, None, is_right=True)
        self.asked(made, "start", host, None)
        self.send(made, "media", "media", "t-mixed-1", MIXED, "audio", "next", None)
        for who in sorted(staying):
            self.send(made, who, "participant", _track(who), who, "audio", "next", None)

    def ids(self) -> set[str]:
        """Return the recordings that are stored."""
        return {row[0] for row in self.rows("recorder.db", "SELECT id FROM recordings")}

    def newest(self, place: int) -> Recording:
        """Return a recording."""
        return self.recordings[-1 - place % len(self.recordings)]

    def taking(self, place: int) -> Recording:
        """Return a recording; the newest one is made anew where it is closed."""
        number = len(self.recordings)
        if place == 0 and self.recordings[-1].is_in(ENDS):
            self.record(PSEUDONYMS[number % 4], "m", number % 3 == 0, set(PSEUDONYMS[:3]), None)
        return self.newest(place)

    # -- rules: members and hosts ----------------------------------------------------------------

    def asked(
        self,
        each: Recording,
        call: str,
        who: str,
        kill: Kill | None,
        more: str | None = None,
        *,
        is_right: bool = False,
    ) -> None:
        """Make a member's call, or the platform's about one."""
        caller = _caller("participant", who, each.meeting)
        told: Any = more
        what: tuple[Any, ...]
        if call in ("join", "depart"):
            what = (call, _caller("platform", "platform", each.meeting), each.id, who)
        elif call in ("stay", "leave"):
            told = is_right and bool(each.digest)
            what = ("choose", caller, each.id, call, each.digest if told else "c" * 64)
        elif call in ("withdraw", "erase"):
            what = (call, caller, each.id)
        elif call == "handover":
            what = (call, caller, each.id, more)
        else:
            what = ("control", caller, each.id, call)
        answer = self.call(
            each, lambda model: model.asked(self.now, call, who, told), *what, kill=kill
        )
        if answer is not None and answer.code is None and call not in ("join", "depart"):
            self.noted[each.id, call] += 1
        if answer is not None and call in ("leave", "withdraw", "erase"):
            self.look_at_keys()

    @rule(
        place=places,
        call=st.sampled_from(["join", "depart"]),
        who=st.none() | pseudonyms,
        seconds=st.sampled_from([0.0, 0.0, 59.0, 61.0]),
        kill=kills,
    )
    def roster(
        self, place: int, call: str, who: str | None, seconds: float, kill: Kill | None
    ) -> None:
        """The platform adds a member to the roster, or takes one off, perhaps the host; then some
        time passes, which no timer sees."""
        each = self.taking(place)
        self.asked(each, call, who or each.models[0].grant.current_host, kill)
        self.now += seconds

    @rule(
        place=places,
        call=st.sampled_from(["start", "pause", "resume", "resume", "stop"]),
        who=st.none() | pseudonyms,
        kill=kills,
    )
    def control(self, place: int, call: str, who: str | None, kill: Kill | None) -> None:
        """The host, or a member, does what only the host may."""
        each = self.newest(place)
        self.asked(each, call, who or each.models[0].grant.current_host, kill)

    @rule(place=places, to=pseudonyms, who=st.none() | pseudonyms, kill=kills)
    def handover(self, place: int, to: str, who: str | None, kill: Kill | None) -> None:
        """The host names an heir, who accepts, or another member does."""
        each = self.newest(place)
        self.asked(each, "handover", each.models[0].grant.current_host, None, to)
        self.asked(each, "accept", who or to, kill)

    @rule(
        place=places,
        who=pseudonyms,
        call=st.sampled_from(["stay", "stay", "leave"]),
        is_right=st.sampled_from([True] * 5 + [False]),
        kill=kills,
    )
    def choose(self, place: int, who: str, call: str, is_right: bool, kill: Kill | None) -> None:
        """A member chooses, with the digest of the notice or with another."""
        each = self.newest(place)
        self.asked(each, call, who, kill, is_right=is_right)

    @rule(place=places, who=pseudonyms, kill=kills)
    def withdraw(self, place: int, who: str, kill: Kill | None) -> None:
        """A member withdraws, at any time."""
        each = self.newest(place)
        self.asked(each, "withdraw", who, kill)

    @rule(place=places)
    def go_on(self, place: int) -> None:
        """The host comes back and resumes, and each member who has not chosen stays."""
        each = self.newest(place)
        host = each.models[0].grant.current_host
        self.asked(each, "join", host, None)
        for who in PSEUDONYMS:
            grant = each.models[0].grant
            if grant.is_present(who) and grant.choice(who) == "pending":
                self.asked(each, "stay", who, None, is_right=True)
        self.asked(each, "resume", host, None)

    # -- rules: content ---------------------------------------------------------------------------

    def send(
        self,
        each: Recording,
        sender: str,
        role: str,
        track: str,
        owner: str,
        kind: str,
        which: str,
        kill: Kill | None,
    ) -> None:
        """Send a chunk."""
        there = each.models[0].content.get(track, [])
        number = {"next": len(there), "later": len(there) + 2}.get(which, max(len(there) - 1, 0))
        self.sent += 1
        data = _CONTENT + f" {self.sent} ".encode() + os.urandom(self.sent * 37 % 400)
        if which == "again" and there:
            data = there[number]
        chunk = Chunk(sender, role, track, owner, kind, number, data)
        self.call(
            each,
            lambda model: model.sent(self.now, chunk),
            "add_chunk",
            _caller(role, sender, each.meeting),
            each.id,
            NewChunk(track, number, data, kind, owner),
            kill=kill,
        )

    @rule(
        place=places,
        owner=st.integers(0, 3),
        which=numbers,
        number=st.sampled_from("112"),
        before=st.integers(0, 2),
        kill=kills,
    )
    def own_chunks(
        self, place: int, owner: int, which: str, number: str, before: int, kill: Kill | None
    ) -> None:
        """Chunks of a member come, of one who stays where there is one."""
        each = self.taking(place)
        grant = each.models[0].grant
        found = [who for who in PSEUDONYMS if grant.choice(who) == "stay"] or PSEUDONYMS
        who = found[owner % len(found)]
        track = _track(who, number)
        for _ in range(before):
            self.send(each, who, "participant", track, who, "audio", "next", None)
        self.send(each, who, "participant", track, who, "audio", which, kill)

    @rule(place=places, which=numbers, number=st.sampled_from("12"), kill=kills)
    def mixed_chunk(self, place: int, which: str, number: str, kill: Kill | None) -> None:
        """Media delivers a chunk of a mixed track."""
        each = self.taking(place)
        self.send(each, "media", "media", f"t-mixed-{number}", MIXED, "audio", which, kill)

    @rule(
        place=places,
        sender=st.sampled_from([*PSEUDONYMS, "media"]),
        role=st.sampled_from(["media", "participant", *sorted(ROLES)]),
        track=st.sampled_from([*(_track(who) for who in PSEUDONYMS), "t-mixed-1", "other"]),
        owner=st.sampled_from([*PSEUDONYMS, MIXED]),
        kind=st.sampled_from([*["audio"] * 5, *sorted(KINDS)]),
        which=numbers,
        kill=kills,
    )
    def any_chunk(
        self,
        place: int,
        sender: str,
        role: str,
        track: str,
        owner: str,
        kind: str,
        which: str,
        kill: Kill | None,
    ) -> None:
        """A chunk comes of any caller, track, owner and kind."""
        each = self.newest(place)
        self.send(each, sender, role, track, owner, kind, which, kill)

    @rule(place=places, who=st.none() | pseudonyms, role=st.sampled_from(["viewer", "host"]))
    def read(self, place: int, who: str | None, role: str) -> None:
        """A viewer, or a host of the meeting, reads what there is, and asks for the manifest."""
        each = self.newest(place)
        reader = who or each.models[0].grant.heir or each.models[0].grant.current_host
        self.look_at(each, reader, role)
        caller = _caller(role, reader, each.meeting)
        self.call(
            each,
            lambda model: model.manifest(self.now, reader, role),
            *("lines", caller, each.id),
        )

    # -- rules: time, erasing, crashes ------------------------------------------------------------

    @rule(moment=moments)
    def time_passes(self, moment: float) -> None:
        """Some time passes."""
        self.now += moment

    @rule(jump=jumps, kill=kills)
    def clock_jumps(self, jump: float, kill: Kill | None) -> None:
        """The clock jumps, and the recorder's timer sees it."""
        latest = max([self.now, *(m.grant.time for r in self.recordings for m in r.models)])
        self.now = jump + (latest if jump > 0 else self.now)
        outcomes = [[(m, m.ticked(self.now)) for m in each.models] for each in self.recordings]
        try:
            self.ask("tick", kill=kill)
        except Killed as killed:
            for each, found in zip(self.recordings, outcomes, strict=True):
                each.models = [m for before, o in found for m in (before, *o.between, o.after)]
            self.crashed(killed)
            return
        for each, found in zip(self.recordings, outcomes, strict=True):
            each.models = [outcome.after for _, outcome in found]
        self.look_at_keys()

    @rule(place=places, who=st.none() | pseudonyms, kill=kills)
    def erase(self, place: int, who: str | None, kill: Kill | None) -> None:
        """The host, or a member, erases a recording."""
        each = self.newest(place)
        self.asked(each, "erase", who or each.models[0].grant.current_host, kill)

    @rule(
        place=st.integers(1, 3),
        what=st.sampled_from(["rotate", "rotate", "rotate", "erase"]),
        kill=kills,
    )
    def operate(self, place: int, what: str, kill: Kill | None) -> None:
        """The operator rotates the master key, or erases a recording."""
        each, now = self.newest(place), self.now
        if what == "erase":
            self.call(each, lambda m: m.erased_by_operator(now), "erase_now", each.id, kill=kill)
        else:
            try:
                assert self.ask("rotate", kill=kill).code is None
            except Killed as killed:
                self.crashed(killed)
        self.look_at_keys()

    @rule(kill=kills)
    def restart(self, kill: Kill | None) -> None:
        """The process ends in good order, unless it is killed meanwhile, and starts again."""
        self.remember()
        try:
            self.running.close(self.now, kill)
        except Killed as killed:
            for each in self.recordings:
                each.models += restarted(each.models, self.now, is_killed=False)
            self.crashed(killed)
            return
        for each in self.recordings:
            each.models = restarted(each.models, self.now, is_killed=False)
        self.start(())

    # -- what is looked at ------------------------------------------------------------------------

    def rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, from a file of the recorder."""
        path = self.directory / name
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()

    def remember(self) -> None:
        """Remember keys as they lie on the disk, so that they can be searched for later."""
        for recording, name, identity in self.rows(
            "vault/keys.db", "SELECT recording, name, identity FROM tracks WHERE identity NOT NULL"
        ):
            self.wrapped.setdefault((recording, name), set()).add(identity)
        for recording, secret in self.rows("vault/keys.db", "SELECT * FROM recordings"):
            self.wrapped.setdefault((recording, ""), set()).add(secret)
        self.masters.add((self.directory / "vault/master.key").read_bytes().strip())

    def look_at_all(self) -> None:
        """What viewers and hosts get, keys, files and ledger are as the models say."""
        for each in self.recordings:
            caller = _caller("platform", "platform", each.meeting)
            answer = self.running.call(self.now, "events", caller, each.id)
            state = answer.result[-1].state, answer.result[-1].reason
            each.models = [m for m in each.models if (m.grant.phase, m.reason) == state]
            assert each.models, state
            assert state[0] in ENDS
            self.look_at(each)
            for who in PSEUDONYMS[:2]:
                self.look_at(each, who, "host")
        if self.bucket is not None:
            self.running.call(self.now, "settle")
        for each in self.recordings:
            assert self.running.call(self.now, "verify", each.id).result == []
        self.look_at_keys()
        self.look_at_files()
        self.look_at_ledger()

    def look_at(self, each: Recording, who: str = "viewer", role: str = "viewer") -> None:
        """A reader gets exactly the content of a model, or the refusal that it says."""
        caller = _caller(role, who, each.meeting)
        answer = self.running.call(self.now, "look", caller, each.id)
        found = {} if answer.result is None else answer.result
        outcomes = [model.read(self.now, who, role) for model in each.models]
        each.models = [
            outcome.after
            for outcome in outcomes
            if (answer.code in outcome.codes if outcome.codes else answer.code is None)
            and (answer.code is not None or _is_content(found, outcome.result, each.identity))
        ]
        assert each.models, (answer, [outcome[:2] for outcome in outcomes])
        self.noted[each.id, "track"] += len(found) + (answer.code is None)

    def look_at_keys(self) -> None:
        """There is a key for each track that stands, and none for any other, in no byte."""
        rows = self.rows("vault/keys.db", "SELECT recording, name, identity, recipient FROM tracks")
        for each in self.recordings:
            there = {row[1] for row in rows if row[0] == each.id and row[1]}
            keys = [row for row in rows if row[0] == each.id and (row[2] or row[3])]
            assert len(keys) == len(there)
            assert any(_fits_keys(model, there) for model in each.models), there
        current = (self.directory / "vault/master.key").read_bytes().strip()
        dead = {
            key
            for each in self.recordings
            for (recording, name), keys in self.wrapped.items()
            if recording == each.id and each.is_gone(name)
            for key in keys
        }
        for path in (self.directory / "vault").iterdir():
            if path.is_file():
                found = path.read_bytes()
                assert not any(key in found for key in dead), path
                assert not any(key in found for key in self.masters - {current}), path

    def look_at_files(self) -> None:
        """There is a file for each chunk that stands, in the bucket or here, and none besides, and
        nowhere content or a pseudonym."""
        objects = self.rows("vault/keys.db", "SELECT recording, object, name FROM tracks")
        names = {(recording, object_): name for recording, object_, name in objects}
        found: dict[str, Counter[_Place]] = {}
        for path in self.folder.rglob("*"):
            if not path.is_file():
                continue
            if ".age" in path.name:
                recording, object_ = path.parts[-3:-1]
                name = names.get((recording, object_))
                if path.suffix == ".age":
                    is_there = self.directory not in path.parents
                    found.setdefault(recording, Counter())[name, int(path.stem), is_there] += 1
                else:  # of an upload that was killed
                    assert name is not None, path
            data = path.read_bytes()
            assert _CONTENT not in data, path
            assert _NAME.encode() not in data, path
        for each in self.recordings:
            chunks = found.pop(each.id, Counter())
            is_there = self.bucket is not None and each.identity is None
            assert any(_chunks(model, is_there) == chunks for model in each.models), chunks
        assert found == {}

    def look_at_ledger(self) -> None:
        """It holds, and has what was acknowledged."""
        with opened(self.directory / "recorder.db") as ledger:
            verified = ledger.verify()
            facts = [dict(entry.facts) for entry in ledger.entries() if entry.facts]
        assert (list(verified.flaws), list(verified.breaks)) == ([], [])
        done = Counter(
            (str(each["recording"]), str(each["what"]))
            for each in facts
            if each.get("recording") and each.get("outcome") == "done"
        )
        assert self.noted - done == Counter()
        for what, ended in (("close", ENDS), ("erase", ("erased",))):
            written = {each["recording"] for each in facts if each.get("what") == what}
            assert written >= {each.id for each in self.recordings if each.is_in(ended)}


_tokens = count()


def _caller(role: str, subject: str, meeting: str) -> Caller:
    """A caller with a new token: the ledger has one entry for each token and track."""
    return Caller(role, subject, meeting, f"jti-{next(_tokens)}", 2e9)  # type: ignore[arg-type]


def _explains(outcome: Outcome, answer: Answer) -> bool:
    """Return whether a model's outcome is the answer."""
    if outcome.codes:
        is_next = answer.code == "next" and answer.next != outcome.result
        return answer.code in outcome.codes and not is_next
    result = answer.result
    if isinstance(outcome.result, tuple):
        return answer.code is None and (result.next, result.is_new) == outcome.result
    return answer.code is None and (result is None or result.state == outcome.result)


def _is_content(
    found: dict[str, Content],
    content: dict[str, list[bytes]],
    identity: pyrage.x25519.Identity | None,
) -> bool:
    """Return whether a viewer gets that content, and nothing else."""
    if found.keys() != content.keys():
        return False
    for name, (kind, number, size, data) in found.items():
        chunks = content[name]
        whole = b"".join(chunks)
        read = data if isinstance(data, bytes) else _opened(data, identity)
        if (kind in KINDS, number, size, read) != (True, len(chunks), len(whole), whole):
            return False
    return True


def _opened(sealed: list[bytes], identity: pyrage.x25519.Identity | None) -> bytes:
    return b"".join(pyrage.decrypt(each, [identity]) for each in sealed)


def _fits_keys(model: RecordingModel, there: set[str]) -> bool:
    """Return whether those tracks may have keys: all that have content, and none that is gone; one
    that was killed before its first chunk may have one."""
    grant = model.grant
    living = set() if grant.phase == "erased" else set(grant.tracks) - grant.destroyed
    return set(model.content) <= there <= living


def _chunks(model: RecordingModel, is_there: bool) -> Counter[_Place]:
    """Return the chunks of a model, by track, number, and whether the bucket has them."""
    return Counter(
        (name, number, is_there)
        for name, chunks in model.content.items()
        for number in range(len(chunks))
    )


class BucketHistories(RecorderHistories):
    """The same, with objects in a bucket."""

    has_bucket = True


@for_each("has_bucket", [False, True])
def test_any_history(has_bucket: bool, tmp_path: Path) -> None:
    """The laws hold after every step and every kill."""
    try:
        RecorderProcess(tmp_path, 0.0, bucket=None).kill()
    except Unsupervised:
        required("the supervision of system calls (seccomp)")
    RecorderHistories.steps.clear()
    shrinking = [Phase.shrink] if "COLLECTOR_HISTORY_STEPS" in os.environ else []
    runs = settings(
        max_examples=max(1, _STEPS // _RUN),
        stateful_step_count=_RUN,
        phases=[Phase.generate, *shrinking],
    )
    while RecorderHistories.steps["calls"] < _STEPS:
        run_state_machine_as_test(
            BucketHistories if has_bucket else RecorderHistories, settings=runs
        )
    print(dict(RecorderHistories.steps))
