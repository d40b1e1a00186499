"""``collector recording``: the process that keeps recordings, and commands that look at them,
verify, open, erase and assemble them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from collector.cli.console import err, group, new_table, out, print_json, seen
from collector.cli.options import (
    AsJson,
    Checkpoints,
    ConfigFile,
    Data,
    Output,
    Yes,
    confirm,
    read_file,
    write_new,
)
from collector.cli.stdout import write
from collector.config import Config, load, read
from collector.errors import ConfigError, DeliveryError, InputError, InUse, UsageError, file_name
from collector.extras import require

if TYPE_CHECKING:
    from collector.recording.names import Role
    from collector.recording.store import Row
    from collector.recording.vault import Vault

_LOST = "the recorder's file does not have it: nothing will erase it in time"
_NEEDED = ("cryptography", "joserfc", "obstore", "pyrage")
app: typer.Typer = group("Keep recordings of meetings; verify, open and erase them.")
_NO_RECORDING = "there is no such recording or track in this directory"


def _checked(given: Any) -> Any:
    """Return ids of recordings. Raises ``InputError`` E433 for a word of another form."""
    from collector.recording.names import is_recording  # noqa: PLC0415 - keeps `--help` light

    if not all(map(is_recording, [given] if isinstance(given, str) else given or ())):
        raise InputError("E433", _NO_RECORDING)
    return given


_Id = Annotated[str, typer.Argument(metavar="ID", callback=_checked, help="The id of a recording.")]
_NO_CHECKPOINT = "is not a checkpoint; `collector recording show ID --checkpoint` prints one"


@app.command("serve")
def serve(config: ConfigFile = None) -> None:
    """Keep recordings of meetings: a host decides on each, and it has only those who stay.

    It needs `recorder.enabled` and `recorder.keys`, the platform's public keys; see
    docs/recording.md. SIGTERM or Ctrl-C closes every recording, and ends it.
    """
    from collector.server import clear_switches, harden  # noqa: PLC0415 - keeps `--help` light

    clear_switches()  # before any library is tried
    _needs_recording("httptools", "prometheus_client", "uvloop")
    loaded = read(config)
    harden()
    from collector.recording.server import serve as served  # noqa: PLC0415 - only now, after it

    raise typer.Exit(served(loaded))


def _needs_recording(*more: str) -> None:
    """Load the libraries of recordings. Raises ``ConfigError`` E201 if one is not installed or
    cannot be loaded."""
    require("recording", "recording", *_NEEDED, *more, is_whole=True)


@contextmanager
def _answered() -> Iterator[None]:
    """Turn a refusal of the recorder into an error of the command line."""
    from collector.recording.refusals import Refused  # noqa: PLC0415 - keeps `--help` light

    refusal = None
    try:
        yield
    except Refused as refused:
        refusal = refused
    if refusal is None:
        return
    if refusal.code in ("unavailable", "full", "busy"):
        raise DeliveryError("E514", "the recorder cannot do this now; try again later")
    if refusal.code in ("not_found", "malformed"):
        raise InputError("E433", _NO_RECORDING)
    raise InputError("E433", f"the recorder refused: {refusal.message}")


def _settings(config: Path | None, data: Path | None) -> Config:
    """Load the settings, with another directory if one is named. Raises ``ConfigError``."""
    _needs_recording()
    chosen = load(config)
    if data is None:
        return chosen
    recorder = chosen.recorder.model_copy(update={"data": data})
    return chosen.model_copy(update={"recorder": recorder})


def _directory(config: Config) -> Path:
    """Return the recorder's directory. Raises ``ConfigError`` E203 if there is none."""
    from collector.recording.store import FILE_NAME  # noqa: PLC0415 - keeps `--help` light

    directory = config.recorder.data or Path()
    if not (directory / FILE_NAME).is_file():
        raise ConfigError(
            "E203", f"{file_name(directory)} has no recordings; name another with --data"
        )
    return directory


@contextmanager
def _vault(config: Config) -> Iterator[Vault]:
    """Open the vault to read in it; a recorder may be running."""
    from collector.recording.settings import bucket_options  # noqa: PLC0415 - keeps `--help` light
    from collector.recording.vault import opened_to_read  # noqa: PLC0415

    directory, chosen = _directory(config), config.recorder
    options = bucket_options(chosen)
    reading = opened_to_read(directory, bucket=chosen.bucket, options=options)
    with _answered(), reading as vault:
        yield vault


@app.command("list")
def list_recordings(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """List recordings: the id, the state, where it is stored, what it contains, and how many
    members chose to stay. A recorder may be running."""
    chosen = _settings(config, data)
    from collector.recording.store import read_rows  # noqa: PLC0415 - keeps `--help` light

    shown = [_summary(row) for row in read_rows(_directory(chosen))]
    if as_json:
        print_json(shown)
        return
    table = new_table(*_COLUMNS, numbers=("stay", "tracks"), whole=("id", "state"))
    for each in shown:
        table.add_row(*(seen(str(each[name])) for name in _COLUMNS))
    out.print(table)


_MOST_CHECKPOINT_BYTES = 64 << 10
_COLUMNS = ("id", "state", "storage", "kinds", "stay", "tracks")


def _summary(row: Row) -> dict[str, Any]:
    """Return what is shown of a recording: neither names of members nor of the meeting."""
    grant = row.snapshot
    choices = [each["choice"] for each in grant["members"].values()]
    return {
        "id": row.id,
        "state": row.state,
        "storage": grant["terms"]["storage"],
        "kinds": ", ".join(grant["terms"]["kinds"]),
        **{choice: choices.count(choice) for choice in ("stay", "leave", "pending")},
        "tracks": sum(not each["is_destroyed"] for each in grant["tracks"].values()),
        "destroyed": sum(each["is_destroyed"] for each in grant["tracks"].values()),
        "erased_at": row.due,
    }


@app.command("show")
def show(
    recording: _Id,
    config: ConfigFile = None,
    data: Data = None,
    checkpoint: Annotated[
        bool,
        typer.Option("--checkpoint", help="Print only a signed line, to keep on another machine."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a recording: its state, members by choice, and its tracks with their sizes."""
    chosen = _settings(config, data)
    from collector.recording.store import read_rows  # noqa: PLC0415 - keeps `--help` light

    rows = (each for each in read_rows(_directory(chosen)) if each.id == recording)
    row = next(rows, None)
    with _vault(chosen) as vault:
        if checkpoint:
            write(vault.checkpoint(recording))
            return
        tracks = [] if row is None or row.state == "erased" else vault.tracks(recording)
    if row is None:
        raise InputError("E433", _NO_RECORDING)
    found = _summary(row) | {
        "tracks": [
            {"name": each.name, "kind": each.kind, "chunks": each.chunks, "bytes": each.size}
            for each in tracks
        ]
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name != "tracks":
            out.print(f"{name}: {value}", markup=False)
    for track in found["tracks"]:
        out.print(f"track {track['name']}: {track['kind']}, {track['bytes']:,} bytes", markup=False)


@app.command("verify")
def verify(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", callback=_checked, help="The ids of recordings. Default: all."
        ),
    ] = None,
    config: ConfigFile = None,
    data: Data = None,
    checkpoint: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """Verify manifests, every stored chunk and the ledger. Exit 1 if anything was cut off,
    inserted, changed or moved.

    With a checkpoint that you kept elsewhere (`recording show --checkpoint`), it also finds out
    whether a whole recording was rolled back. For checkpoints of the ledger, use
    `collector ledger verify`.
    """
    chosen = _settings(config, data)
    from collector.ledger import opened  # noqa: PLC0415 - keeps `--help` light
    from collector.recording.store import FILE_NAME, read_rows  # noqa: PLC0415
    from collector.recording.verification import verify as verified  # noqa: PLC0415

    directory, checkpoints = _directory(chosen), dict(map(_checkpoint, checkpoint or ()))
    with opened(directory / FILE_NAME) as ledger:
        flaws = [str(flaw) for flaw in ledger.verify().flaws]
    faults: dict[str, list[str]] = {}
    with _vault(chosen) as vault:
        full = vault.store.full()
        rows = read_rows(directory)  # after that: a recording is there before its content
        lost = set(full).difference(row.id for row in rows)
        stored = [row.id for row in rows if row.state != "erased"]
        for recording in recordings or dict.fromkeys([*stored, *full, *checkpoints]):
            found = verified(vault, recording, checkpoints.get(recording))
            faults[recording] = found + [_LOST] * (recording in lost)
    is_sound = not flaws and not any(faults.values())
    if as_json:
        print_json({"ok": is_sound, "ledger": flaws, "recordings": faults})
    else:
        for flaw in flaws:
            err.print(f"the recorder's ledger: {flaw}", markup=False, style="red")
        for recording, found in faults.items():
            out.print(f"{recording}: {'faulty' if found else 'sound'}", markup=False)
            for each in found:
                err.print(f"{recording}: {each}", markup=False, style="red")
    raise typer.Exit(0 if is_sound else 1)


def _checkpoint(path: Path) -> tuple[str, bytes]:
    """Read a checkpoint, and which recording it is of. Raises ``InputError`` E422."""
    from collector.recording.manifest import read_signature  # noqa: PLC0415 - keeps `--help` light

    line = read_file(path, _MOST_CHECKPOINT_BYTES)
    found = read_signature(line.strip())
    if found is None:
        raise UsageError("E422", f"{file_name(path)} {_NO_CHECKPOINT}")
    return found.tip.recording, line


@app.command("open")
def open_track(
    recording: _Id,
    track: Annotated[str, typer.Argument(metavar="TRACK", help="The name of a track.")],
    config: ConfigFile = None,
    data: Data = None,
    output: Output = None,
) -> None:
    """Write a track of a recording in cloud storage to a new file (0600) or to stdout. The ledger
    notes it before the first byte. A recorder may be running."""
    from collector.ledger import Note  # noqa: PLC0415 - keeps `--help` light
    from collector.spool import note  # noqa: PLC0415

    chosen = _settings(config, data)
    with _vault(chosen) as vault:
        if not any(each.name == track for each in vault.tracks(recording)):
            raise InputError("E433", _NO_RECORDING)
        entry = Note.of("access", recording=recording, what="open", outcome="done")
        note(_directory(chosen), entry)
        pieces = vault.read(recording, track)
        if output is None:
            for piece in pieces:
                write(piece)
            return
        write_new(output, pieces)


def _operate(config: Path | None, data: Path | None, action: str, recording: str = "") -> None:
    """Have the recorder that runs do something, or do it on its directory if none runs."""
    chosen = _settings(config, data)
    from collector.recording.control import ask, operate  # noqa: PLC0415 - keeps `--help` light
    from collector.recording.server import open_recorder  # noqa: PLC0415

    directory = _directory(chosen)
    with _answered():
        try:
            recorder = open_recorder(chosen)
        except InUse:
            ask(directory, action, recording)
            return
        with closing(recorder):
            operate(recorder, action, recording)


@app.command("erase")
def erase(
    recording: _Id,
    config: ConfigFile = None,
    data: Data = None,
    yes: Yes = False,
) -> None:
    """Erase a recording: first its keys, then its files. A recorder may be running; an open
    recording is closed first."""
    confirm("Nobody can read the recording afterwards. Erase it?", yes)
    _operate(config, data, "erase", recording)
    out.print("erased")


@app.command("rotate")
def rotate(config: ConfigFile = None, data: Data = None) -> None:
    """Encrypt the keys of all tracks with a new master key, and destroy the old one. A backup with
    the old key then cannot open what is stored from now on. A recorder may be running."""
    _operate(config, data, "rotate")
    out.print("rotated")


@app.command("assemble")
def assemble(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The age files, as TRACK/N.age.")],
    identity: Annotated[
        Path, typer.Option("--identity", "-i", metavar="FILE", help="The host's age identity.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where tracks are written.")
    ] = Path(),
) -> None:
    """Verify and open a recording in local storage: compare every age file with the signed manifest
    (`manifest.jsonl`) beside it, and write each track to one file."""
    _needs_recording()
    from collector.recording.verification import assemble as assembled  # noqa: PLC0415

    for name, size in assembled(source, output, identity).items():
        out.print(f"{name}: {size:,} bytes", markup=False)


@app.command("token")
def token(
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="A private Ed25519 key, PEM.")],
    meeting: Annotated[str, typer.Option("--meeting", help="The meeting.")] = "",
    role: Annotated[
        str, typer.Option("--role", help="platform, host, participant, media, viewer or auditor.")
    ] = "participant",
    subject: Annotated[str, typer.Option("--subject", help="The pseudonym.")] = "",
    *,
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=300, help="Its lifetime.")] = 300,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Only make the key, and print its key set.")
    ] = False,
) -> None:
    """Print a token to try the recorder with; a platform makes its own tokens.

    `collector recording token --key platform.pem --new-key > keys.json` makes what
    `recorder.keys` needs.
    """
    _needs_recording()
    from collector.recording.access import create_key, issue, key_set  # noqa: PLC0415

    if new_key:
        create_key(key)
        write(key_set(key) + b"\n")
        return
    try:
        text = issue(
            key, meeting=meeting, role=cast("Role", role), subject=subject, seconds=seconds
        )
    except ValueError:
        message = "a token needs --meeting, --subject and one of the roles"
        raise typer.BadParameter(message) from None
    write(f"{text}\n".encode())
