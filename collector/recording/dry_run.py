"""Make recordings in a temporary directory, and try to break each promise about them.

Every trial uses a real ``Recorder`` with vault and ledger; only the clock is set by the trial. A
finding names the broken rule (a code of ``REFUSALS``) and no value.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

from collector.claims.document import Check
from collector.claims.findings import ClaimFinding
from collector.errors import CollectorError
from collector.ledger import opened
from collector.recording.access import Caller, Verifier, create_key, issue, key_set
from collector.recording.jwks import KeySource
from collector.recording.names import MIXED, Role
from collector.recording.notices import DIGESTS, Notice
from collector.recording.recorder import NewChunk, Recorder
from collector.recording.refusals import Refused
from collector.recording.states import Terms
from collector.recording.store import FILE_NAME

Search = Callable[[Iterable[Path], Sequence[str]], object]
"""Returns whether directories contain one of the texts, however it is packed."""

_MEETING, _HOST, _GUEST, _LATE = "meeting", "host-1", "guest-1", "late-1"
_DAY = 86_400.0


class TrialRecorder:
    """A recorder in a directory of its own, and a recording with two members on its roster."""

    def __init__(self, directory: Path, canary: str, *, recipient: str | None = None) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.now: float = time.time()
        self.content: bytes = canary.encode() * 64
        self.recorder: Recorder = Recorder(directory, clock=lambda: self.now)
        self.id: str
        self.notice: str
        self.id, self.notice = self.recorder.request(self.caller("host"), _terms(recipient))
        self.numbers: dict[str, int] = {}
        self.join(_HOST, _GUEST)

    def caller(self, role: Role, subject: str = _HOST, meeting: str = _MEETING) -> Caller:
        """Return a caller whose token is valid."""
        return Caller(role, subject, meeting, secrets.token_hex(8), self.now + 60)

    def join(self, *members: str) -> None:
        """Put members on the roster."""
        for member in members:
            self.recorder.join(self.caller("platform", "backend"), self.id, member)

    def stay(self, *members: str, notice: str = "") -> None:
        """Let members choose to stay."""
        for member in members:
            caller = self.caller("participant", member)
            self.recorder.choose(caller, self.id, "stay", notice or self.notice)

    def control(self, action: Literal["start", "pause", "resume", "stop"]) -> None:
        """Let the host act."""
        self.recorder.control(self.caller("host"), self.id, action)

    def send(
        self, owner: str, *, track: str = "", kind: str = "audio", by: Caller | None = None
    ) -> None:
        """Deliver the next chunk of a member's track, or of the mixed one."""
        name = track or owner
        number = self.numbers.get(name, 0)
        chunk = NewChunk(name, number, self.content, kind, owner)
        self.recorder.add_chunk(by or self.caller("media", "media-1"), self.id, chunk)
        self.numbers[name] = number + 1

    def read(
        self, track: str, role: Role = "viewer", subject: str = "viewer-1", meeting: str = _MEETING
    ) -> bytes:
        """Read a track to its end."""
        caller = self.caller(role, subject, meeting)
        reader = self.recorder.open_track(caller, self.id, track)
        return reader.sealed(0) if reader.is_sealed else b"".join(reader.read(0, None))

    def tracks(self) -> set[str]:
        """Return the names of the stored tracks."""
        return {each.name for each in self.recorder.tracks(self.caller("viewer"), self.id)}

    def depart(self, member: str) -> None:
        """Take a member off the roster."""
        self.recorder.depart(self.caller("platform", "backend"), self.id, member)

    def files(self) -> list[Path]:
        """Return the files with sealed content."""
        return [each for each in self.directory.rglob("*.age") if each.is_file()]


def _terms(recipient: str | None, *, is_local: bool | None = None) -> Terms:
    return Terms(
        meeting=_MEETING,
        storage="cloud" if recipient is None and not is_local else "local",
        recipient=recipient,
        kinds=frozenset({"audio", "chat"}),
        retention=_DAY,
        medium="audio",
        language="en",
    )


def _refused(
    rule: str, attempt: str, action: Callable[..., object], *arguments: object, **named: object
) -> Iterator[ClaimFinding]:
    """Expect an action to be refused with a code."""
    try:
        action(*arguments, **named)
    except Refused as refused:
        if refused.code != rule:
            message = f"Test recorder: {attempt} was refused for another reason than expected."
            yield ClaimFinding(message, rule, is_open=True, advice=_REPORT)
    else:
        yield _breach(f"{attempt} was not refused", rule)


_REPORT = "Do not record with this version of Collector, and report this as SECURITY.md says."


def _breach(what: str, rule: str | None = None, *, is_open: bool = False) -> ClaimFinding:
    """Return the finding for what the test recorder did wrong."""
    return ClaimFinding(f"Test recorder: {what}.", rule, is_open=is_open, advice=_REPORT)


def _kept(trial: TrialRecorder, *tracks: str) -> Iterator[ClaimFinding]:
    """Expect exactly these tracks, with exactly the content that was delivered."""
    found = trial.tracks()
    if others := found ^ set(tracks):
        yield _breach(f"{len(others)} tracks are missing or should not be there")
    for track in sorted(found & set(tracks)):
        if trial.read(track) != trial.content * trial.numbers[track]:
            yield _breach("a track does not hold exactly what was recorded")


# -- the promises ---------------------------------------------------------------------------------


def _grant(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """Content is recorded only while the host's grant is open, and only of a kind that it
    covers."""
    trial.stay(_HOST, _GUEST)
    yield from _refused("announced", "a chunk before the start", trial.send, _GUEST)
    trial.control("start")
    trial.send(_GUEST)
    what = "a picture where sound was granted"
    yield from _refused("kind", what, trial.send, _GUEST, track="picture", kind="video")
    trial.control("pause")
    yield from _refused("paused", "a chunk in a pause", trial.send, _GUEST)
    trial.control("resume")
    trial.send(_GUEST)
    trial.depart(_HOST)
    yield from _refused("paused", "a chunk while the host is away", trial.send, _GUEST)
    trial.now += 61
    trial.recorder.tick()
    yield from _refused("closed", "a chunk a minute later", trial.send, _GUEST)
    yield from _kept(trial, _GUEST)


def _notice(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """Members get the notice as sound and as picture, and choose with the digest of either."""
    caller, shipped = trial.caller("participant", _GUEST), Notice("en", "audio", "cloud")
    sent = [trial.recorder.notice(caller, trial.id, "wav")]
    sent.append(trial.recorder.notice(caller, trial.id, "png"))
    digests = {sha256(each).hexdigest() for each in sent}
    if sent != [shipped.wav, shipped.png] or digests != shipped.digests:
        yield _breach("members got another notice than the one that ships")
    if not shipped.digests <= {*DIGESTS.values()} or trial.notice not in digests:
        yield _breach("a notice had another digest than the one it is known by")
    other = Notice("id", "audio", "local").digest
    yield from _refused("notice", "a choice by another notice", trial.stay, _GUEST, notice=other)
    trial.control("start")
    yield from _refused("pending", "a chunk without a choice", trial.send, _GUEST)
    trial.stay(_GUEST)
    trial.send(_GUEST)
    trial.control("stop")
    yield from _kept(trial, _GUEST)


def _choice(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """Nothing is recorded of a member who has not chosen or who leaves; a leaving member's content
    is destroyed."""
    mix = partial(trial.send, MIXED, track="mix")
    trial.stay(_HOST)
    trial.control("start")
    yield from _refused("pending", "a chunk of a pending member", trial.send, _GUEST)
    yield from _refused("pending", "a mix with a pending member", mix)
    trial.stay(_GUEST)
    trial.send(_HOST)
    trial.send(_GUEST)
    mix()
    foreign = trial.caller("participant", _GUEST)
    what = "a chunk of another member's track"
    yield from _refused("owner", what, trial.send, _HOST, by=foreign)
    trial.join(_LATE)
    yield from _refused("pending", "a mix with a member who joined late", mix)
    trial.depart(_LATE)
    leaver = trial.caller("participant", _GUEST)
    trial.recorder.choose(leaver, trial.id, "leave", trial.notice)
    yield from _refused("left", "a chunk of a member who left", trial.send, _GUEST)
    yield from _refused("left", "a mix that was destroyed", mix)
    trial.depart(_GUEST)
    trial.send(_HOST)
    trial.control("stop")
    yield from _kept(trial, _HOST)
    yield from _refused("left", "reading what a member took back", trial.read, _GUEST)
    trial.recorder.withdraw(trial.caller("participant", _HOST), trial.id)
    if trial.tracks() or trial.files():
        yield _breach("content stayed after its member withdrew", "left")


def _storage(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """In the cloud everything is sealed, with one key for each track. A local recording can be
    opened only by the host. Both are deleted when their time is over."""
    from pyrage import decrypt, x25519  # noqa: PLC0415 - heavy

    own = x25519.Identity.generate()
    place = trial.directory.with_name("storage-local")
    local = TrialRecorder(
        place, trial.content[: len(trial.content) // 64].decode(), recipient=str(own.to_public())
    )
    with closing(local.recorder):
        for each in (trial, local):
            each.stay(_GUEST)
            each.control("start")
            each.send(_GUEST)
            each.control("stop")
        yield from _kept(trial, _GUEST)
        reader = local.recorder.open_track(local.caller("viewer"), local.id, _GUEST)
        yield from _refused("forbidden", "opening a local recording here", reader.read, 0, None)
        if decrypt(reader.sealed(0), [own]) != local.content:
            yield _breach("the host's key did not open a local recording")
        yield from _search(trial, search)
        for each in (trial, local):
            each.now += 4 * _DAY
            each.recorder.tick()
            if each.files():
                yield _breach("content stayed after its retention")
            yield from _refused("erased", "reading after that", each.tracks)
    what = "local storage without the host's key"
    yield from _refused("terms", what, _terms, None, is_local=True)


def _search(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """Search every file for the recorded content, and for a text that the search must find."""
    canary = trial.content[: len(trial.content) // 64].decode()
    if search([trial.directory], [canary]):
        yield _breach("content lay on disk unencrypted")
    plant = trial.directory / "plant"
    plant.write_text(f"before {canary} after")
    if not search([plant], [canary]):
        yield _breach("the search missed a text that was planted for it", is_open=True)
    plant.unlink()


def _access(trial: TrialRecorder, search: Search) -> Iterator[ClaimFinding]:
    """Only callers with the right can open a recording, and the ledger notes each attempt."""
    trial.stay(_GUEST)
    trial.control("start")
    trial.send(_GUEST)
    yield from _refused("open", "reading while it records", trial.read, _GUEST)
    trial.control("stop")
    before = _accesses(trial)
    yield from _kept(trial, _GUEST)
    for role in ("participant", "media", "platform", "auditor"):
        yield from _refused("forbidden", f"reading in the role {role}", trial.read, _GUEST, role)
    foreign = trial.caller("host", _LATE)
    trial.recorder.request(foreign, _terms(None))
    what = "reading as the host of another recording"
    yield from _refused("forbidden", what, trial.read, _GUEST, "host", _LATE)
    attempts: dict[str, Callable[..., object]] = {
        "listing tracks": trial.recorder.tracks,
        "fetching the manifest": trial.recorder.manifest,
        "erasing": trial.recorder.erase,
    }
    for what, try_it in attempts.items():
        attempt = f"{what} as the host of another recording"
        yield from _refused("forbidden", attempt, try_it, foreign, trial.id)
    if trial.read(_GUEST, "host", _HOST) != trial.content:
        yield _breach("the host could not read the recording", is_open=True)
    what = "reading with another meeting's token"
    yield from _refused("not_found", what, trial.read, _GUEST, meeting="another")
    if _accesses(trial) - before < 11:
        yield _breach("the ledger lacks an access")
    yield from _tokens(trial)
    caller = trial.caller("host")
    ask = partial(trial.recorder.store.answer_to, caller)
    ask(b"a request")
    yield from _refused("replayed", "a token for a second request", ask, b"another request")
    with opened(trial.directory / FILE_NAME) as ledger:
        yield from (_breach(f"the ledger does not hold: {flaw}") for flaw in ledger.verify().flaws)
    if trial.recorder.verify(trial.id):
        yield _breach("a recording does not match its manifest")
    sealed = trial.files()[0]
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    sealed.write_bytes(data)
    if not trial.recorder.verify(trial.id):
        yield _breach("a changed bit went unnoticed")


def _accesses(trial: TrialRecorder) -> int:
    with opened(trial.directory / FILE_NAME) as ledger:
        return sum(each.kind == "access" for each in ledger.entries())


def _tokens(trial: TrialRecorder) -> Iterator[ClaimFinding]:
    """Tokens are verified: the meeting, the platform's signature, and the time."""
    keys = [trial.directory / name for name in ("key", "other-key")]
    for each in keys:
        create_key(each)
    known = trial.directory / "keys.json"
    known.write_bytes(key_set(keys[0]))
    verifier = Verifier(KeySource(str(known)))

    def verify(key: Path, meeting: str, later: float = 0) -> Caller:
        token = issue(key, meeting=_MEETING, role="viewer", subject="viewer-1", seconds=60)
        return verifier.verify(token.encode(), meeting, time.time() + later)

    if verify(keys[0], _MEETING).role != "viewer":
        yield _breach("a valid token was not accepted", is_open=True)
    yield from _refused("not_found", "another meeting's token", verify, keys[0], "another")
    yield from _refused("not_found", "another key's token", verify, keys[1], _MEETING)
    yield from _refused("expired", "an old token", verify, keys[0], _MEETING, 600)


TRIALS: dict[Check, Callable[[TrialRecorder, Search], Iterator[ClaimFinding]]] = {
    "grant": _grant,
    "notice": _notice,
    "choice": _choice,
    "storage": _storage,
    "access": _access,
}
"""The trials, by the check that each one is for."""


def run(folder: Path, canary: str, search: Search) -> dict[Check, tuple[ClaimFinding, ...]]:
    """Run the trials, each in its own directory below ``folder``, and return what each found.

    A trial that cannot finish proves nothing, and its check stays open.
    """
    found: dict[Check, tuple[ClaimFinding, ...]] = {}
    for name, trial in TRIALS.items():
        findings: list[ClaimFinding] = []
        try:
            made = TrialRecorder(folder / name, canary)
            with closing(made.recorder):
                findings.extend(trial(made, search))
        except (Refused, CollectorError, OSError) as error:
            code = error.code if isinstance(error, Refused | CollectorError) else "I/O"
            findings.append(_breach(f"the trial stopped early ({code})", is_open=True))
        found[name] = tuple(findings)
    return found
