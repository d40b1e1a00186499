"""``collector ledger``: receipts and entries, and the exit code of their verification."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from collector.ledger import Note
from collector.ledger.export import auditor_script
from collector.spool import Spool
from tests.support.command import Ended, run
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_batches import commit, commit_to, drained, entry

CANARY = "canary-203.0.113.7"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three receipts and some entries between."""
    folder = tmp_path / "data"
    with Spool(folder / "spool.db", sinks=["sink"]) as spool:
        note = Note.of("configuration", document=b'{"a": 1}', change="first")
        spool.note(note, Note.of("checkpoint", at="start")).result(WAIT_SECONDS)
        for n in range(3):
            commit(spool, entry(n, rejected={"malformed": 1}, text=CANARY))
            spool.note(Note.of("read", command="store query", rows=n)).result(WAIT_SECONDS)
        spool.note(Note.of("checkpoint", at="stop")).result(WAIT_SECONDS)
        drained(spool)
    return folder


def edit(data: Path, *statements: str) -> None:
    """With any tool that writes SQLite."""
    db = sqlite3.connect(data / "spool.db", isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def ledger(command: str, data: Path, *arguments: object) -> Ended:
    return run("ledger", command, "--data", data, *arguments)


def checkpoint(data: Path) -> Path:
    """A checkpoint, kept elsewhere."""
    path = data.parent / "checkpoint.txt"
    path.write_bytes(ledger("checkpoint", data).out)
    return path


def test_entries(data: Path) -> None:
    shown = ledger("entries", data, "--last", 2)
    assert shown.code == 0
    lines = shown.out.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["6", "7"]
    assert "at stop" in lines[2]
    listed = ledger("entries", data, "--last", 0, "--json").json
    assert [each["kind"] for each in listed] == [
        *("key", "configuration", "checkpoint", "read", "read", "read", "checkpoint")
    ]
    assert listed[1]["previous"] == listed[0]["hash"]
    assert listed[3]["facts"] == [["command", "store query"], ["rows", "0"]]


def test_a_terminal_obeys_nothing_of_a_file(data: Path) -> None:
    """A writer of the file cannot hide an entry with control characters."""
    edit(
        data,
        "UPDATE entries SET kind = char(27) || '[1A[/x]' WHERE sequence = 4",
        "UPDATE receipts SET minute = char(27) || '[2J[/x]' WHERE sequence = 2",
    )
    for command in ("entries", "show"):
        shown = ledger(command, data)
        assert (shown.code, shown.err) == (0, b"")
        assert b"\x1b" not in shown.out
        assert b"[/x]" in shown.out


def test_verify_tells_of_entries(data: Path) -> None:
    done = ledger("verify", data, "--checkpoint", checkpoint(data))
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert lines[1] == "7 entries, 7 of them signed"
    assert "compared with 1 checkpoints that were kept elsewhere, up to entry 7" in lines
    told = ledger("verify", data, "--json").json["entries"]
    assert (told["entries"], told["signed"], told["signed_up_to"]) == (7, 7, 7)
    assert [key["vouched"] for key in told["keys"]] == [True]


def test_a_changed_entry_fails(data: Path) -> None:
    edit(data, "UPDATE entries SET facts = 'command store query' WHERE sequence = 4")
    edit(data, "DELETE FROM receipts WHERE sequence = 2")
    done = ledger("verify", data, "--json")
    assert done.code == 1
    flaws = done.json["flaws"]
    assert {"sequence": 4, "message": "hash does not match the content", "what": "entry"} in flaws
    assert {"sequence": 3, "message": "receipt 2 is missing before it"} in flaws


def test_a_cut_tail_is_found_by_a_checkpoint(data: Path) -> None:
    path = checkpoint(data)
    edit(
        data,
        "DELETE FROM receipts WHERE sequence > 1",
        "UPDATE tip SET (sequence, hash) = (SELECT sequence, hash FROM receipts)",
        "DELETE FROM entries WHERE sequence > 4",
        "UPDATE last_entry SET (sequence, hash) ="
        " (SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1)",
    )
    assert ledger("verify", data).code == 0
    done = ledger("verify", data, "--checkpoint", path)
    assert done.code == 1
    assert b"entry 7: the entries after 4 are missing, but a checkpoint names it" in done.err
    assert b"receipt 3: missing, but the checkpoint at entry 7 names it" in done.err


def test_a_checkpoint_can_be_asked_for(data: Path) -> None:
    """It is newer than the one before, and both are in the ledger."""
    first, path = checkpoint(data), data.parent / "second.txt"
    path.write_bytes(ledger("checkpoint", data, "--new").out)
    assert b"fact at asked" in path.read_bytes()
    both = data.parent / "both.txt"
    both.write_bytes(first.read_bytes() + path.read_bytes())
    for files in ([first, path], [both]):
        given = [part for file in files for part in ("--checkpoint", file)]
        assert ledger("verify", data, *given).code == 0


def test_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db"):
        pass
    done = ledger("checkpoint", tmp_path)
    assert (done.code, done.out) == (1, b"")
    assert b"--new" in done.err
    for command in ("verify", "checkpoint", "rotate-key", "entries", "export"):
        assert ledger(command, tmp_path / "none").code == 78
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind checkpoint", "kind erasure"),  # its signature is good for another text
        ("signature ", "signature 00"),
        ("signature ", f"{CANARY} "),
        ("sequence 7", "sequence seven"),
        ("collector entry 1", f"{CANARY}\ncollector entry 1"),
        ("receipt 3 ", "receipt 3"),
    ],
)
def test_what_is_no_checkpoint(data: Path, old: str, new: str) -> None:
    """The message shows nothing of the file."""
    path = checkpoint(data)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = ledger("verify", data, "--checkpoint", path)
    assert done.code == 2
    assert b"[E422]" in done.err
    assert b"canary" not in done.err + done.out
    done = ledger("verify", data, "--checkpoint", data / "none")
    assert (done.code, b"none cannot be read: no such file" in done.err) == (2, True)


def test_a_key_is_rotated(data: Path) -> None:
    old = (data / "ledger.key").read_bytes()
    with Spool(data / "spool.db"):
        done = ledger("rotate-key", data)
    assert done.code == 0
    told = ledger("verify", data, "--json").json
    assert told["ok"]
    keys = told["entries"]["keys"]
    assert [key["vouched"] for key in keys] == [True, True]
    assert done.out.decode() == f"key: {keys[1]['public']}\n"
    assert (data / "ledger.key").read_bytes() != old


def exported(data: Path) -> Path:
    output = data.parent / "export.ndjson"
    assert ledger("export", data, "--output", output).code == 0
    return output


def audit(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The auditor's script, where nothing of ours can be imported."""
    script = folder / "auditor.py"
    script.write_text(auditor_script())
    command: list[str | Path] = [sys.executable, "-I", script, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
    )


def test_an_export_is_verified_elsewhere(data: Path, tmp_path: Path) -> None:
    """A script that knows nothing of Collector verifies it."""
    output = exported(data)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert ledger("export", data).out == output.read_bytes()
    assert CANARY.encode() not in output.read_bytes()
    unwritten = ledger("export", data, "--output", tmp_path / "none" / "file")
    assert (unwritten.code, b"[E203]" in unwritten.err) == (78, True)
    path = checkpoint(data)
    path.write_text(2 * path.read_text())
    done = audit(tmp_path, output, path)
    told = ledger("verify", data, "--checkpoint", path).out.decode()
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    assert run("ledger", "export", "--verifier").out.decode() == auditor_script()
    assert "collector" not in [
        line.split()[1] for line in auditor_script().splitlines() if "port" in line
    ]


_RECEIVED = "UPDATE receipts SET received = 9 WHERE sequence = 2"


@pytest.mark.parametrize(
    ("statement", "flaw"),
    [
        (_RECEIVED, "receipt 2: hash does not match the content"),
        (_RECEIVED, "receipt 2: received is not admitted"),
        ("DELETE FROM receipts WHERE sequence = 2", "receipt 3: receipt 2 is missing before it"),
        ("DELETE FROM receipts WHERE sequence = 3", "receipt 3: missing, but entry 6 names it"),
        ("DELETE FROM receipts WHERE sequence = 3", "receipt 3: the receipts after 2 are missing"),
        ("DELETE FROM entries WHERE sequence = 4", "entry 5: entry 4 is missing before it"),
        ("UPDATE entries SET kind = 'read' WHERE sequence = 3", "entry 3: hash does not match"),
        ("UPDATE entries SET signature = x'00' WHERE sequence = 3", "signature is not valid"),
        ("UPDATE documents SET text = x'00'", "entry 2: document does not match its digest"),
        ("DELETE FROM documents", "entry 2: document is missing"),
        ("UPDATE starts SET after = x'01'", "receipt 1: does not follow its chain's start"),
    ],
)
def test_the_auditor_finds(data: Path, tmp_path: Path, statement: str, flaw: str) -> None:
    edit(data, statement)
    output = exported(data)
    done, verified = audit(tmp_path, output), ledger("verify", data)
    assert (done.returncode, verified.code) == (1, 1)
    assert flaw in done.stdout
    assert flaw.encode() in verified.err
    assert b"does not hold" in verified.out
    assert done.stdout == (verified.err + verified.out).decode()
    first, _, _ = done.stdout.partition(": ")
    assert f"the ledger does not hold; the first flaw is at {first}\n" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "flaw"),
    [
        (b'"hash"', b"", "line 11: cannot be read"),
        (b'"receipt"', b'"canary"', "line 11: cannot be read"),
        (b"sequence ", b"sequence x", "receipt 2: does not have the form of one"),
        (b"received ", b"received 9", "receipt 2: hash does not match the content"),
        (b"{", b"[" * 100_000, "line 11: cannot be read"),
        (b"{", b"\xff\x00{", "line 11: cannot be read"),
    ],
)
def test_an_export_with_a_broken_line(
    data: Path, tmp_path: Path, old: bytes, new: bytes, flaw: str
) -> None:
    """The auditor names the line, and goes on."""
    output = tmp_path / "export.ndjson"
    exported = ledger("export", data).out.splitlines(keepends=True)
    exported[-3] = exported[-3].replace(old, new, 1)
    output.write_bytes(b"".join(exported))
    done = audit(tmp_path, output)
    assert (done.returncode, done.stderr) == (1, "")
    assert flaw in done.stdout.splitlines()


def test_what_is_no_export(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "export.ndjson"
    exported = ledger("export", data).out
    cut = exported[: exported.rindex(b"\n", 0, -1) + 1]
    for content in (b"", b"\x00garbage\n[]\n{}\nnull\n", cut, cut[:-9]):
        output.write_bytes(content)
        done = audit(tmp_path, output)
        assert (done.returncode, done.stderr) == (1, "")
        assert "line 0: the last one, which names the last receipt, is missing" in done.stdout
    assert audit(tmp_path, tmp_path / "none").returncode == 1
    done = audit(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "python3 auditor.py EXPORT" in done.stderr


def test_what_is_no_checkpoint_to_the_auditor(data: Path, tmp_path: Path) -> None:
    output, path = exported(data), checkpoint(data)
    text = path.read_text()
    for content in ("", "garbage", text[:-1].replace("signature", "sign"), text + "garbage"):
        path.write_text(content)
        done = audit(tmp_path, output, path)
        assert done.returncode == 1
        assert "checkpoint.txt: not a file of checkpoints" in done.stdout
    path.write_text(f"\n{text}\n")
    assert audit(tmp_path, output, path).returncode == 0


def test_checkpoints_of_many_years(data: Path) -> None:
    path = checkpoint(data)
    path.write_text(path.read_text() * 3000)
    assert path.stat().st_size > 1 << 20
    done = ledger("verify", data, "--checkpoint", path)
    assert (done.code, done.err) == (0, b"")


def test_the_auditor_compares_with_checkpoints(data: Path, tmp_path: Path) -> None:
    path = checkpoint(data)
    (data / "spool.db").unlink()
    (data / "ledger.key").unlink()
    with Spool(data / "spool.db") as spool:
        spool.note(Note.of("checkpoint", at="start")).result(WAIT_SECONDS)
    output = exported(data)
    assert audit(tmp_path, output).returncode == 0
    done = audit(tmp_path, output, path)
    assert done.returncode == 1
    assert "receipt 3: missing, but the checkpoint at entry 7 names it" in done.stdout
    assert ledger("verify", data, "--checkpoint", path).code == 1


def test_a_ledger_that_was_damaged_holds(data: Path, tmp_path: Path) -> None:
    """Verification and auditor name what they cannot vouch for; a checkpoint of what was lost is a
    flaw to both."""
    path = checkpoint(data)
    edit(
        data,
        "UPDATE receipts SET admitted = 9 WHERE sequence = 3",
        "UPDATE entries SET minute = '' WHERE sequence = 6",
        "DROP TABLE hours",
    )
    (data / "ledger.key").unlink()
    with Spool(data / "spool.db", sinks=["sink"]) as spool:
        assert len(spool.quarantined) == 1
        commit(spool, entry(9))
        spool.note(Note.of("checkpoint", at="stop")).result(WAIT_SECONDS)
    done = ledger("verify", data)
    assert done.code == 0, done.err
    assert b"entries before 8 were lost, where the file was damaged" in done.out
    assert b"a new key begins at entry 9; the one before has not signed it" in done.out
    assert b"a new chain begins at receipt 4, where the file was damaged; 1 receipts" in done.out
    output = exported(data)
    told = audit(tmp_path, output)
    aside = "1 damaged files were set aside in the data directory\n"
    assert told.stdout + aside == done.out.decode()
    assert ledger("verify", data, "--checkpoint", path).code == 1
    assert audit(tmp_path, output, path).returncode == 1


def test_receipts_that_damage_explains(data: Path, tmp_path: Path) -> None:
    """Receipts that an attacker cut off can look like damage; a checkpoint says that they were."""
    path = checkpoint(data)
    edit(data, "DELETE FROM receipts WHERE sequence = 3")
    commit_to(data / "spool.db", entry(9))
    output = exported(data)
    assert ledger("verify", data).code == 0
    assert audit(tmp_path, output).returncode == 0
    assert ledger("verify", data, "--checkpoint", path).code == 1
    assert audit(tmp_path, output, path).returncode == 1


def test_a_ledger_of_an_unknown_format(data: Path) -> None:
    edit(data, "UPDATE about SET format = 2", "PRAGMA user_version = 2")
    before = (data / "spool.db").read_bytes()
    for command in ("verify", "entries", "export", "checkpoint"):
        done = ledger(command, data)
        assert (done.code, b"a format that this version" in done.err) == (78, True), command
        assert b"E203" in done.err
    assert (data / "spool.db").read_bytes() == before


# -- receipts


def test_show(data: Path) -> None:
    shown = ledger("show", data, "--last", 2)
    assert shown.code == 0
    assert shown.err == b""
    lines = shown.out.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["2", "3"]
    assert "1 malformed" in lines[1]
    listed = ledger("show", data, "--last", 0, "--json").json
    assert [receipt["sequence"] for receipt in listed] == [1, 2, 3]
    assert listed[0]["rejected"] == {"malformed": 1}
    assert listed[1]["previous"] == listed[0]["hash"]


def test_verify_holds(data: Path) -> None:
    """It also holds while a process has the spool open."""
    with Spool(data / "spool.db"):
        done = ledger("verify", data)
    assert done.code == 0
    out = done.out.decode().splitlines()
    assert out[0] == "3 receipts: 6 received = 3 admitted + 3 rejected"
    assert out[-1] == "the ledger holds"
    told = ledger("verify", data, "--json").json
    assert told["ok"] is True
    assert (told["receipts"], told["received"], told["admitted"]) == (3, 6, 3)
    assert told["tip"]["hash"] in out[-2]


def test_a_noted_tip(data: Path) -> None:
    first = ledger("show", data, "--json").json[0]["hash"]
    assert ledger("verify", data, "--noted", first).code == 0
    assert ledger("verify", data, "--noted", "00" * 32).code == 1
    assert ledger("verify", data, "--noted", "nonsense").code == 2


def test_a_spool_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"canary")
    done = ledger("verify", tmp_path)
    assert done.code == 1
    assert b"[E507]" in done.err
    assert b"canary" not in done.err + done.out


def test_damage_is_told(data: Path) -> None:
    path = data / "spool.db"
    path.write_bytes(path.read_bytes()[:20_000])
    commit_to(path, entry(9))
    done = ledger("verify", data)
    assert done.code == 0
    assert b"a new chain begins at receipt" in done.out
    assert b"1 damaged files were set aside" in done.out


def test_the_directory_of_the_configuration(data: Path, tmp_path: Path) -> None:
    """``--data`` goes before the environment, which goes before the file."""
    (tmp_path / "c.yaml").write_text(f"data: {data}\n")
    (tmp_path / "faulty.yaml").write_text("foo: 1\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for word in ("show", "entries", "verify", "export"):
        by_file = run("ledger", word, "--config", tmp_path / "c.yaml", directory=elsewhere)
        named = {"COLLECTOR__DATA": str(data)}
        by_environment = run("ledger", word, env=named, directory=elsewhere)
        faulty = tmp_path / "faulty.yaml"
        by_option = run("ledger", word, "--data", data, "-c", faulty, directory=elsewhere)
        assert by_file.code == by_environment.code == by_option.code == 0
        assert by_file.out == by_environment.out == by_option.out != b""
    for more in (("checkpoint", "--new"), ("rotate-key",)):
        done = run("ledger", *more, "--config", tmp_path / "c.yaml", directory=elsewhere)
        assert (done.code, done.err) == (0, b"")
    done = run("ledger", "verify", "--config", tmp_path / "faulty.yaml", directory=elsewhere)
    assert (done.code, b"[E105]" in done.err) == (78, True)
    assert list(elsewhere.iterdir()) == []
