"""A real recorder in a process of its own, and a platform that signs tokens for its callers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.recording import api
from collector.recording.access import create_key, issue, key_set
from tests.support.documented import Document
from tests.support.sidecar import Answer, Sidecar, started

MEETING = "m-1"
TERMS: dict[str, Any] = {
    "meeting": MEETING,
    "storage": "cloud",
    "kinds": ["audio", "video"],
    "retention": "30d",
    "notice": {"medium": "audio", "language": "en"},
}
DOCUMENT = Document(Path(api.__file__).with_name("openapi.json"))
"""What the recorder says of its API."""
_LIMITS = {"header_time": "60s", "body_time": "60s"}
"""Longer than a machine stands still: a test that is held up is no slow sender or reader."""


@dataclass
class Meeting:
    """The callers of one meeting, and the recording that they speak of."""

    process: Sidecar
    key: Path
    name: str = MEETING
    recording: str = ""
    notice: str = ""

    def token(self, role: str, subject: str, seconds: float = 300) -> str:
        """A token of this meeting."""
        claims: dict[str, Any] = {"role": role, "subject": subject, "seconds": seconds}
        return issue(self.key, meeting=self.name, **claims)

    def call(
        self,
        role: str,
        subject: str,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = None,
    ) -> Answer:
        """Ask for something of the recording."""
        place = f"/v1/recordings/{self.recording}{path}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {token or self.token(role, subject)}", **(headers or {})}
        place = place.rstrip("/")
        answer = self.process.request(method, place, data, sent, to="recorder")
        DOCUMENT.check(method, place, answer.status, answer.headers, answer.body)
        return answer

    def request(self, host: str = "ana", **terms: Any) -> None:
        """Let a host ask for a recording."""
        self.recording = ""
        answer = self.call("host", host, "POST", "", {**TERMS, "meeting": self.name, **terms})
        assert answer.status == 201, answer
        self.recording, self.notice = answer.json["id"], answer.json["notice"]["digest"]

    def join(self, *subjects: str) -> None:
        """Put members on the roster."""
        for subject in subjects:
            assert self.call("platform", "p", "PUT", f"/members/{subject}").status == 204

    def choose(self, subject: str, choice: str = "stay") -> None:
        """Let a member fetch the notice, and choose."""
        wav = self.call("participant", subject, "GET", "/notice.wav").body
        chosen = {"choice": choice, "notice": hashlib.sha256(wav).hexdigest()}
        assert self.call("participant", subject, "PUT", "/choice", chosen).status == 200

    def control(self, action: str, host: str = "ana") -> Answer:
        """Let the host do something."""
        return self.call("host", host, "POST", f"/{action}")

    def chunk(
        self,
        track: str,
        number: int,
        data: bytes,
        owner: str = "ben",
        kind: str = "audio",
        sender: tuple[str, str] = ("media", "egress"),
    ) -> Answer:
        """Deliver a chunk."""
        about = {"Collector-Kind": kind, "Collector-Owner": owner}
        return self.call(*sender, "PUT", f"/tracks/{track}/chunks/{number}", data, about)

    def opened(self, *members: str) -> None:
        """Let Ana record, with members who all stay."""
        self.request()
        self.join("ana", *members)
        for member in ("ana", *members):
            self.choose(member)
        assert self.control("start").json["state"] == "open"

    def code(self, answer: Answer) -> str:
        """The code of a refusal."""
        found: str = answer.json["error"]["code"]
        return found


@contextmanager
def running(
    directory: Path, more: Mapping[str, Any] | None = None, /, **settings: str
) -> Iterator[Meeting]:
    """A recorder with a directory of its own, in which a platform's key is as well. ``settings``
    are of its section, ``more`` are other sections."""
    key, keys, config = (
        directory / name for name in ("platform.pem", "keys.json", "recorder.yaml")
    )
    if not key.exists():
        create_key(key)
        keys.write_bytes(key_set(key))
    chosen = {"enabled": True, "keys": str(keys), "address": "127.0.0.1:0", **settings}
    chosen = {"data": str(directory / "recorder"), **chosen}
    sections = {"recorder": chosen, "limits": _LIMITS, **(more or {})}
    config.write_text(json.dumps(sections))
    with started(directory, "--config", str(config), words=("recording", "serve")) as process:
        yield Meeting(process, key)
