"""``collector config``: the settings of ``serve``, every fault at once, and the flows of fields."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from collector.config import read
from collector.config.model import settings
from collector.schema import resources
from tests.cli.repository import commit
from tests.support.command import Ended, run, run_process
from tests.support.packages import offered
from tests.support.rows import for_each

_SECRET = "hunter2secret"
_HASH = "cd" * 32


def _of(command: str, path: Path, *more: object, **env: str) -> Ended:
    return run("config", command, "--config", path, *more, env=env)


def _places(done: Ended) -> list[str]:
    return [line.partition(" ")[0] for line in done.err.decode().splitlines()]


def test_nothing_to_complain_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of the defaults or of a sound file makes no file."""
    monkeypatch.chdir(tmp_path)
    done = run("config", "check")
    assert (done.code, done.out, done.err) == (0, b"no faults\n", b"")
    (tmp_path / "c.yaml").write_text("log: {level: debug}\n")
    done = run("config", "check", "--config", "c.yaml", "--json")
    assert (done.code, done.json) == (0, {"ok": True, "faults": [], "warnings": []})
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_a_server_that_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    """It is exit 0, because a sidecar starts with this configuration."""
    path = tmp_path / "c.yaml"
    url = f"postgres://{_SECRET}@127.0.0.1:1/telemetry"
    path.write_text(
        f"data: {tmp_path}/d\nsinks:\n  lake: {{type: postgres, party: first, url: '{url}'}}\n"
    )
    done = _of("check", path)
    assert (done.code, done.out) == (0, b"no faults\n")
    assert done.err.startswith(f"warning: {path}:3:3: sinks.lake: ".encode()), done.err
    assert b"E514" in done.err
    found = _of("check", path, "--json").json
    assert (found["ok"], found["faults"]) == (True, [])
    assert [(each["field"], each["code"]) for each in found["warnings"]] == [("sinks.lake", "E514")]
    assert _SECRET.encode() not in done.out + done.err
    file = tmp_path / "none"
    path.write_text(f"{path.read_text()}tls: {{certificate: {file}, key: {file}}}\n")
    done = _of("check", path, "--json")
    assert (done.code, len(done.json["faults"])) == (78, 1)
    assert done.json["warnings"] == found["warnings"]


def test_every_fault_of_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"http:\n  address: {_SECRET}\nauth:\n  tokens: [{_SECRET}]\nfoo: 1\n")
    plain, listed = (
        _of("check", path, *more, COLLECTOR__LOG__LEVEL=_SECRET) for more in ((), ("--json",))
    )
    assert _places(plain) == [f"{path}:{at}:" for at in ("2:12", "4:12", "5:1")] + ["environment:"]
    assert (listed.json["ok"], len(listed.json["faults"])) == (False, 4)
    for done in (plain, listed):
        assert done.code == 78
        assert _SECRET.encode() not in done.err + done.out


def test_every_fault_of_what_settings_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "s.yaml").write_text("name: x\n")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"data: {tmp_path}/file/below\nschema: {tmp_path}/s.yaml\n"
        f"tls: {{certificate: {tmp_path}/none.pem, key: {tmp_path}/none.pem}}\n"
        f"http: {{unix: {tmp_path}/none/in.sock}}\n"
        "admin: {address: '192.0.2.1:1'}\n"
        f"auth: {{tokens: [{_HASH}]}}\n"
        f"sinks:\n  ndjson: {{path: {tmp_path}/file/out.ndjson}}\n"
    )
    done = _of("check", path)
    assert done.code == 78
    said = done.err.decode()
    for setting in ("tls.certificate", "data", "http.unix", "sinks.ndjson.path", "admin.address"):
        assert f": {setting}: " in said, said
    assert f"{tmp_path}/s.yaml:" in said
    assert f"{path}:4:14: http.unix" in said
    assert f"{path}:8:18: sinks.ndjson.path" in said
    assert _HASH not in said


def test_faults_of_both_at_once(tmp_path: Path) -> None:
    """What settings name is tried although other settings are faulty."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"schema: {_SECRET}\nspool: {{limit: lots}}\ndata: {tmp_path}/file/below\n"
        "http: {address: everywhere}\n"
    )
    done = _of("check", path)
    assert done.code == 78
    said = sorted(line.split(" ")[:2] for line in done.err.decode().splitlines())
    assert said == [
        [f"{path}:1:9:", "schema:"],
        [f"{path}:2:16:", "spool.limit:"],
        [f"{path}:3:7:", "data:"],
        [f"{path}:4:17:", "http.address:"],
    ]
    assert _SECRET.encode() not in done.err
    path.write_text(f"schema: {tmp_path}/none.yaml\n")
    assert f"{path}:1:9: schema: ".encode() in _of("check", path).err


def test_a_size_is_written_as_a_size(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("sinks: {store: {limit: 1KiB}}\nlimits: {body: 9MiB}\n")
    said = _of("check", path).err.decode()
    assert "sinks.store.limit: this must be at least 1MiB [E107]" in said
    assert "limits.body: this must be at most 8MiB [E107]" in said
    path.write_text("sinks: {store: {limit: 204800KiB}}\n")
    found = _of("show", path, "--json").json
    assert found["sinks.store.limit"]["value"] == "200MiB"


def test_show(tmp_path: Path) -> None:
    """It shows every setting with its origin; of tokens only the number."""
    path = tmp_path / "c.yaml"
    path.write_text(
        f"auth:\n  tokens: [{_HASH}, {_HASH}]\nlimits: {{body: 3MiB, header_time: 1500ms}}\n"
        "http: {origins: [https://a.example]}\n"
    )
    done = _of("show", path, "--json", COLLECTOR__GRPC__ADDRESS="off")
    assert done.code == 0
    found = done.json
    assert list(found) == [one.name for one in settings()]
    assert found["auth.tokens"] == {"value": 2, "origin": f"{path}:2"}
    assert found["limits.body"] == {"value": "3MiB", "origin": f"{path}:3"}
    assert found["limits.header_time"]["value"] == "1.5s"
    assert found["grpc.address"] == {"value": "off", "origin": "environment"}
    assert found["http.address"] == {"value": "127.0.0.1:4318", "origin": "default"}
    assert found["http.origins"]["value"] == ["https://a.example"]
    done = _of("show", path)
    assert _HASH.encode() not in done.out
    assert b"limits.body" in done.out


def test_show_of_a_faulty_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"log: {{level: {_SECRET}}}\n")
    done = _of("show", path)
    assert (done.code, done.out) == (78, b"")
    assert b"[E107]" in done.err
    assert _SECRET.encode() not in done.err


_TAKE_ONE = (
    *("config check", "config show", "config flows", "config reload", "recording serve", "claims"),
    *("status", "top", "store prune", "store set-aside", "store redeliver", "store query SELECT~1"),
    *("ledger show", "ledger verify", "recording list", "schema notice conferencing"),
)


@for_each("command", _TAKE_ONE)
def test_each_command_names_the_configuration_in_one_way(command: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"foo: {_SECRET}\n")
    words = [word.replace("~", " ") for word in command.split()]
    call = run_process if "serve" in words else run
    for option in ("--config", "-c"):
        done = call(*words, option, "c.yaml", directory=tmp_path)
        assert (done.code, b"c.yaml:1:1: " in done.err) == (78, True), done.err
    done = call(*words, "c.yaml", directory=tmp_path)
    assert (done.code, done.out) == (2, b"")
    assert b"--config FILE" in done.err


# -- flows

_SINKS = """\
sinks:
  ndjson: {path: out.ndjson, party: PARTY, recipient: 'A "b" [c]', country: DE,
    purposes: [capacity_planning]}
"""


def _sinks(folder: Path, party: str, more: str = "") -> Path:
    path = folder / f"{party}.yaml"
    path.write_text(_SINKS.replace("PARTY", party) + more)
    return path


def test_flows(tmp_path: Path) -> None:
    path = _sinks(tmp_path, "processor")
    table = _of("flows", path).out.decode().splitlines()
    assert 'ndjson (processor, A "b" [c], DE)' in table[0]
    assert table[1].split() == ["client.address", "service_operations,", "security", "-"]
    found = _of("flows", path, "--json").json
    assert found["sinks"]["ndjson"]["recipient"] == 'A "b" [c]'
    reached = [flow["field"] for flow in found["flows"] if flow["sink"] == "ndjson"]
    assert (len(found["flows"]), len(reached), "client.address" in reached) == (17, 8, False)
    chart = _of("flows", path, "--mermaid").out.decode()
    assert chart.startswith("flowchart LR\n")
    assert chart.count(" -->|") == 17
    assert 's1[("ndjson<br>processor, A #34;b#34; [c], DE")]' in chart


def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "claims.md").read_text()
    page = page[page.index("\n## Flows") :]
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (table,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    (tmp_path / "c.yaml").write_text(example)
    printed = run("config", "flows", "--config", tmp_path / "c.yaml").out.decode()
    assert [line.rstrip() for line in printed.splitlines()] == table.splitlines()


def test_flows_of_the_environment() -> None:
    environ = {"COLLECTOR__SINKS__STORE__PURPOSES": "security"}
    found = run("config", "flows", "--json", env=environ).json
    assert [flow["field"] for flow in found["flows"]] == ["client.address"]


def test_a_third_party_is_refused(tmp_path: Path) -> None:
    """Every command that reads the sinks refuses it at its line."""
    path = _sinks(tmp_path, "third")
    checked = _of("check", path)
    assert checked.code == 78
    assert checked.err.startswith(f"{path}:2:".encode())
    for done in (checked, _of("flows", path), run_process("serve", "--config", path)):
        assert done.code == 78
        assert b"sinks.ndjson.party: a third party" in done.err
        assert b"`no-third-party-ads` and `no-sale`" in done.err
        assert done.err.count(b"\n") == 1
    assert not (tmp_path / "collector-data").exists()


def test_faults_of_sinks_stand_beside_others(tmp_path: Path) -> None:
    """A sink's purposes are checked only where they are sound."""
    path = _sinks(tmp_path, "processor", "  store: {purposes: [securty]}\nlog: {level: x}\n")
    said = _of("check", path).err.decode().splitlines()
    assert [line.rpartition("[")[2] for line in said] == ["E107]", "E132]"]
    assert "did you mean `security`?" in said[1]
    path.write_text("sinks: {store: {purposes: [' ']}}\n")
    assert _of("check", path).err.count(b"\n") == 1
    (tmp_path / "s.yaml").write_text("schema: x\n")
    path.write_text(f"schema: {tmp_path}/s.yaml\nsinks: {{store: {{purposes: [x]}}}}\n")
    said = _of("check", path).err.decode().splitlines()
    assert len(said) == len(set(said)) > 3


# -- diff -----------------------------------------------------------------------------------------


def test_diff(tmp_path: Path) -> None:
    """A new sink widens; a removed one does not."""
    (old := tmp_path / "old.yaml").write_text("log: {level: debug}\n")
    new = _sinks(tmp_path, "processor")
    done = run("config", "diff", old, new, env={"COLLECTOR__SINKS__NDJSON__PATH": "elsewhere"})
    assert done.code == 1
    assert done.out.count(b"widening  flow added") == 8
    assert re.search(rb'widening +sink added +ndjson +processor, A "b" \[c\], DE', done.out)
    assert done.err.count(b"\n") == 1
    found = run("config", "diff", old, new, "--json").json
    assert (found["widening"], len(found["changes"])) == (True, 9)
    back = run("config", "diff", new, old)
    assert (back.code, back.err, back.out.count(b"narrowing  flow removed")) == (0, b"", 8)
    same = run("config", "diff", old, old)
    assert (same.code, same.out) == (0, b"no difference\n")


def test_what_is_refused_is_not_compared(tmp_path: Path) -> None:
    old, new = _sinks(tmp_path, "third"), tmp_path / "new.yaml"
    new.write_text(f"schema: {_SECRET}\n")
    done = run("config", "diff", old, new)
    assert _SECRET.encode() not in done.err
    assert (done.code, done.out) == (78, b"")
    assert _places(done) == [f"{old}:2:37:", f"{new}:1:9:"]


_SCHEMA = (resources.shipped() / "conferencing.yaml").read_text()


_NAMED = "schema: etc/schema.yaml\nsinks: {store: {purposes: [security]}}\n"


def _documents(folder: Path) -> tuple[Path, Path]:
    """A configuration that names a schema file, and that file, below the working directory."""
    config, schema = folder / "etc" / "collector.yaml", folder / "etc" / "schema.yaml"
    config.parent.mkdir()
    config.write_text(_NAMED)
    schema.write_text(_SCHEMA)
    return config, schema


def test_diff_of_revisions(repository: Path) -> None:
    """The schema file is read from the revision, too."""
    config, schema = _documents(repository)
    commit()
    schema.write_text(_SCHEMA.replace("retention: 30d", "retention: 31d", 1))
    config.write_text(_NAMED.replace("security", "security, capacity_planning"))
    for old in ("HEAD:etc/collector.yaml", "main:./etc/collector.yaml"):
        done = run("config", "diff", old, "etc/collector.yaml", "--json")
        found = [change["what"] for change in done.json["changes"]]
        assert found == ["schema widened", "other purposes", *["flow added"] * 8]
        assert done.code == 1
    commit()
    before, after = "HEAD~1:etc/collector.yaml", "HEAD:etc/collector.yaml"
    done = run("config", "diff", before, after)
    assert (done.code, done.out.count(b"flow added")) == (1, 8)
    assert f"{after} lets more flow than {before}" in done.err.decode()
    done = run("config", "diff", after, before)
    assert (done.code, done.err) == (0, b"")
    config.write_text(config.read_text().replace("etc/schema.yaml", str(schema)))
    commit()
    schema.unlink()
    done = run("config", "diff", before, after)
    assert (done.code, done.out) == (0, b"no difference\n")
    config.write_text("schema: conferencing\n")
    commit()
    done = run("config", "diff", "HEAD:etc/collector.yaml", "etc/collector.yaml")
    assert (done.code, done.out) == (0, b"no difference\n")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nowhere:etc/collector.yaml", "no such revision"),
        ("HEAD:collector.yaml", "E101"),
        ("HEAD:etc", "E101"),
        ("HEAD:/etc/passwd", "leads out of the repository"),
        ("HEAD:etc/broken.yaml", "did you mean `store`?"),
        ("HEAD:etc/far.yaml", "leads out of the repository"),
        ("HEAD:etc/gone.yaml", "E101"),
        ("HEAD:etc/unknown.yaml", "did you mean `conferencing`?"),
        ("HEAD:etc/third.yaml", "sinks.ndjson.party: a third party"),
        ("--all:etc/collector.yaml", "o such option"),
    ],
)
def test_what_cannot_be_had_of_a_revision(repository: Path, reference: str, says: str) -> None:
    config, _ = _documents(repository)
    (config.parent / "broken.yaml").write_text(f"sinks: {{stor: {_SECRET}}}\n")
    named = {"far": "../../etc/schema.yaml", "gone": "etc/none.yaml", "unknown": "conferencin"}
    for name, schema in named.items():
        (config.parent / f"{name}.yaml").write_text(f"schema: {schema}\n")
    _sinks(config.parent, "third")
    commit()
    done = run("config", "diff", reference, "etc/collector.yaml")
    assert (done.code, done.out) == (2 if reference.startswith("-") else 78, b"")
    assert says in done.err.decode()
    assert _SECRET.encode() not in done.err
    assert b"Traceback" not in done.err


def test_a_colon_makes_no_path_a_revision(repository: Path) -> None:
    """A reference that looks like a path is a path."""
    config, _ = _documents(repository)
    commit()
    wider = repository / "HEAD:etc"
    wider.mkdir()
    (wider / "collector.yaml").write_text("schema: HEAD:etc/schema.yaml\n")
    (wider / "schema.yaml").write_text(_SCHEMA.replace("retention: 30d", "retention: 31d", 1))
    done = run("config", "diff", config, "./HEAD:etc/collector.yaml")
    assert (done.code, b"schema widened" in done.out) == (1, True)
    assert run("config", "diff", config, "HEAD:etc/collector.yaml").code == 0


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("config", "diff", "HEAD:a.yaml", "b.yaml")
    assert (done.code, b"[E201]" in done.err) == (78, True)


# -- init ------------------------------------------------------------------------------------------


def test_every_setting_is_there_with_its_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert run("config", "init", file).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert len(re.findall(r"^ *#[a-z_]+:", text, re.MULTILINE)) == len(list(settings()))
    assert max(map(len, text.splitlines())) <= 100
    written = re.sub(r"^( *)#([a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)
    assert written.count("\n") == text.count("\n")
    (tmp_path / "written.yaml").write_text(written)
    defaults, commented = read(None, {}), read(file, {})
    placed = defaults.config.in_directory(tmp_path)
    assert commented.config == placed
    found = read(tmp_path / "written.yaml", {})
    assert found.config == placed
    assert "default" not in {found.origins["schema"], found.origins["limits.body"]}


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: elsewhere\n")
    done = run("config", "init", file)
    assert (done.code, b"E203" in done.err) == (78, True)
    assert file.read_text() == "data: elsewhere\n"


def test_what_a_sink_of_another_package_does_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constructor that fails is a fault of its sink."""
    source = """
from pathlib import Path
from collector.sinks import Sink, SinkSettings

class Settings(SinkSettings):
    fails: bool = False

    @property
    def is_local(self):
        return True

class Mine(Sink):
    Settings = Settings

    def __init__(self, settings, opening):
        Path("offline" if opening.is_offline else "made").touch()
        if settings.fails:
            raise KeyError("hunter2secret")

    def deliver(self, *batches):
        pass
"""
    packages = offered(tmp_path / "packages", {"of_mine": source}, {"mine": "of_mine:Mine"})
    monkeypatch.syspath_prepend(str(packages))
    for fails in (False, True):
        (tmp_path / "c.yaml").write_text(f"sinks:\n  mine: {{fails: {str(fails).lower()}}}\n")
        done = run("config", "check", "--config", "c.yaml", directory=tmp_path)
        assert done.code == (78 if fails else 0), done.err
        assert (b"c.yaml:2:3: sinks.mine: " in done.err) == fails
        assert _SECRET.encode() not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"packages", "c.yaml", "offline"}


def test_serve_takes_the_file_as_check_does(tmp_path: Path) -> None:
    options = ["--config", "c.yaml"]
    (tmp_path / "c.yaml").write_text("log: {level: loud}\n")
    for command in (["config", "check"], ["serve"]):
        done = run_process(*command, *options, directory=tmp_path)
        assert (done.code, done.err.count(b"c.yaml:1:14: log.level: ")) == (78, 1)
