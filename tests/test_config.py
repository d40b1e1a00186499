"""Settings: what is read, from where, every fault at once, and no value in any of them."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collector.config import Address, Config, load, read
from collector.config.model import settings
from collector.errors import ConfigFaults, Fault
from tests.support.rows import for_each

_ROOT = Path(__file__).parent.parent
_HASH = "ab" * 32
_SECRET = "hunter2secret"


def _faults(text: str, tmp_path: Path, **environ: str) -> list[Fault]:
    """What is wrong with a file of that text."""
    path = tmp_path / "collector.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFaults) as caught:
        read(path, environ)
    return list(caught.value.faults)


def _places(faults: list[Fault]) -> list[tuple[int, str, str]]:
    return [(fault.line, fault.field, fault.code) for fault in faults]


def test_nothing_is_needed() -> None:
    found = read(None, {})
    assert found.config == Config()
    assert found.config.http.address == Address("127.0.0.1", 4318)
    assert found.config.grpc.address == Address("127.0.0.1", 4317)
    assert found.config.admin.address == Address("127.0.0.1", 4319)
    assert (found.config.data, found.config.schema_) == (Path("collector-data"), "conferencing")
    assert list(found.config.sinks.on()) == ["store"]
    assert set(found.origins.values()) == {"default"}


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    """Each value is known with its origin."""
    path = tmp_path / "collector.yaml"
    path.write_text(
        "http:\n  address: '[::1]:0'\n  origins: [https://a.example]\n"
        "limits: {body: 7MiB, header_time: 500ms}\ngrpc: {address: off}\nspool:\n"
    )
    environ = {
        "COLLECTOR__HTTP__ADDRESS": "localhost:5000",
        "COLLECTOR__AUTH__TOKENS": f"{_HASH}, {_HASH}",
        "COLLECTOR__HTTP__TRUSTED_HOPS": "2",
        "COLLECTOR__SINKS__STORE": "false",
        "COLLECTOR__SINKS__NDJSON__PATH": "out.ndjson",
        "COLLECTOR_DATA": "not a setting",
    }
    found = read(path, environ)
    assert found.config.http.address == Address("localhost", 5000)
    assert found.config.http.origins == ("https://a.example",)
    assert (found.config.limits.body, found.config.limits.header_time) == (7 << 20, 0.5)
    assert found.config.grpc.address is None
    assert found.config.auth.tokens == (_HASH, _HASH)
    assert found.config.http.trusted_hops == 2
    assert list(found.config.sinks.on()) == ["ndjson"]
    assert found.origins["sinks.store.enabled"] == "environment"
    assert found.origins["http.address"] == "environment"
    assert found.origins["limits.body"] == f"{path}:4"
    assert found.origins["spool.limit"] == "default"


def test_the_real_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``load`` reads the process's own."""
    monkeypatch.setenv("COLLECTOR__LOG__LEVEL", "debug")
    assert load().log.level == "debug"


FAULTY = f"""\
data: 5
schema:
http:
  address: {_SECRET}
  adress: {_SECRET}
  origins: [https://a.example, https://a.example/{_SECRET}]
  unix: {"u" * 101}
  hosts: [a.example, "a.example:80"]
grpc: {{address: 0.0.0.0:4317}}
limits:
  body: 9MiB
  ratio: 1
  wire: 3MiB
  wire: {_SECRET}
  header: {_SECRET}
  header_time: 5
  connections: true
auth:
  tokens: [{_SECRET}, {_HASH[:-2]}]
sinks:
  store: "yes"
  ndjson: {{path: a, keep: 0.5}}
tls: {_SECRET}
log: {{level: {_SECRET}}}
{_SECRET}: {_SECRET}
"""


def test_every_fault_in_one_pass_and_no_value(tmp_path: Path) -> None:
    """All of a file and of the environment, in order, with their places; nothing is quoted."""
    environ = {
        "COLLECTOR__ADMIN__ADDRESS": _SECRET,
        "COLLECTOR__SPOOL__LIMIT": "",
        "COLLECTOR__HTP__ADDRESS": _SECRET,
        f"COLLECTOR__{_SECRET}": _SECRET,
    }
    faults = _faults(FAULTY, tmp_path, **environ)
    assert _places(faults) == [
        (1, "data", "E107"),
        (2, "schema", "E107"),
        (4, "http.address", "E107"),
        (5, "http.adress", "E105"),
        (6, "http.origins", "E107"),
        (7, "http.unix", "E107"),
        (8, "http.hosts", "E107"),
        (11, "limits.body", "E107"),
        (12, "limits.ratio", "E107"),
        (14, "limits.wire", "E122"),
        (15, "limits.header", "E107"),
        (16, "limits.header_time", "E107"),
        (17, "limits.connections", "E107"),
        (19, "auth.tokens", "E107"),
        (19, "auth.tokens", "E107"),
        (21, "sinks.store.enabled", "E107"),
        (22, "sinks.ndjson.keep", "E107"),
        (23, "tls", "E107"),
        (24, "log.level", "E107"),
        (25, "…", "E105"),
        (0, "COLLECTOR__HTP__ADDRESS", "E105"),
        (0, "COLLECTOR__…", "E105"),
        (0, "admin.address", "E107"),
        (0, "spool.limit", "E107"),
    ]
    text = "\n".join(map(str, faults))
    assert _SECRET not in text
    lines = FAULTY.splitlines()
    pointed = {fault.field: lines[fault.line - 1][fault.column - 1 :] for fault in faults}
    assert pointed["data"] == lines[0].partition(": ")[2]
    assert pointed["http.adress"].startswith("adress:")
    assert pointed["sinks.ndjson.keep"] == "0.5}"
    assert pointed["auth.tokens"] == f"{_HASH[:-2]}]"
    assert "did you mean `address`?" in text
    assert "did you mean `COLLECTOR__HTTP__ADDRESS`?" in text
    assert "at most 8MiB" in text


def test_nothing_is_kept_of_values_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "collector.yaml"
    path.write_text(FAULTY)
    with pytest.raises(ConfigFaults) as caught:
        read(path, {})
    error = caught.value
    assert (error.__context__, error.__cause__) == (None, None)
    assert _SECRET not in "".join(traceback.format_exception(error))
    assert _SECRET not in repr(error)


def test_settings_are_frozen_and_show_nothing() -> None:
    one = Config(auth={"tokens": [_HASH]})
    assert _HASH not in f"{one!r}{one}{one.auth!r}{[one.auth]}"
    with pytest.raises(ValidationError):
        one.data = Path("elsewhere")  # type: ignore[misc]
    with pytest.raises(ValidationError) as caught:
        Config(auth={"tokens": [_SECRET]})
    assert _SECRET not in str(caught.value)


@for_each(
    ("text", "code"),
    [
        ("a: [", "E102"),
        ("- a", "E107"),
        ("just a text", "E107"),
        ("a: &x 1", "E102"),
        ("http: {address: off}\nhttp: {address: off}", "E122"),
        ("data: !!python/object:os.system x", "E102"),
        ("data: \x01", "E102"),
        ("data: .inf", "E107"),
    ],
)
def test_files_that_are_no_configuration(text: str, code: str, tmp_path: Path) -> None:
    """What YAML of ours refuses in schemas is refused here too, under the same codes."""
    assert {fault.code for fault in _faults(text, tmp_path)} == {code}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """No file, a directory, no text."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("none.yaml", "", "binary.yaml"):
        with pytest.raises(ConfigFaults) as caught:
            read(tmp_path / name, {})
        assert caught.value.code == "E101"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "http:\n", "---\n"):
        (tmp_path / "a.yaml").write_text(text)
        assert read(tmp_path / "a.yaml", {}).config == Config().in_directory(tmp_path)


_TLS = "tls: {certificate: a.pem, key: b.pem}\n"
_AUTH = f"auth: {{tokens: [{_HASH}]}}\n"
_CA = "tls: {certificate: a.pem, key: b.pem, client_ca: c.pem}\n"
_OPEN = ["0.0.0.0:1", "192.0.2.1:1", "'[::]:1'", "'[2001:db8::1]:1'", "collector.example:1"]


@for_each("section", ["http", "grpc", "admin"])
@for_each("address", _OPEN)
def test_open_addresses(section: str, address: str, tmp_path: Path) -> None:
    text = f"{section}: {{address: {address}}}\n"
    for more, number in (("", 2), (_TLS, 1), (_AUTH, 1)):
        faults = _faults(text + more, tmp_path)
        assert [fault.code for fault in faults] == ["E210"] * number
        assert {fault.field for fault in faults} == {f"{section}.address"}
    for more in (_TLS + _AUTH, _CA):
        (tmp_path / "b.yaml").write_text(text + more)
        assert not getattr(read(tmp_path / "b.yaml", {}).config, section).address.is_loopback


@for_each("address", ["127.0.0.1:1", "127.9.9.9:1", "'[::1]:1'", "localhost:1"])
def test_loopback_addresses(address: str, tmp_path: Path) -> None:
    """They need neither."""
    (tmp_path / "a.yaml").write_text(f"http: {{address: {address}}}\n")
    found = read(tmp_path / "a.yaml", {}).config.http.address
    assert found is not None
    assert found.is_loopback
    assert str(found) == address.strip("'")


@for_each(
    ("text", "field"),
    [
        ("tls: {key: a.pem}", "tls.key"),
        ("tls: {certificate: a.pem}", "tls.certificate"),
        ("tls: {client_ca: a.pem}", "tls.client_ca"),
        ("http: {address: 127.0.0.1:4317}", "grpc.address"),
        ("admin: {address: 127.0.0.1:4317}", "admin.address"),
        ("http: {address: off}\ngrpc: {address: off}", "http.address"),
        ("sinks: {store: false}", "sinks.store.enabled"),
        ("sinks: {store: {enabled: false}}", "sinks.store.enabled"),
    ],
)
def test_contradictions(text: str, field: str, tmp_path: Path) -> None:
    """Settings that cannot all be meant, or of which one is missing."""
    (fault,) = _faults(text, tmp_path)
    assert fault.field == field
    assert fault.code in ("E106", "E122")


_HERE = "party: first"


@for_each(
    ("one", "other", "is_refused"),
    [
        *(
            (
                f"{{type: {kind}, url: {url}, {_HERE}}}",
                f"{{type: {kind}, url: {same}, {_HERE}}}",
                refused,
            )
            for kind, url, same, refused in [
                ("postgres", "postgres://a@db/telemetry", "postgres://b@db:5432/telemetry", True),
                ("postgres", "postgres://a@db/telemetry", "postgres://a@db/other", False),
                ("postgres", "postgres://a@db/telemetry", "postgres://a@da/telemetry", False),
                ("parquet", "s3://lake/x", "s3://lake/x/", True),
                ("parquet", "s3://lake/x", "s3://lake/x/y", True),
                ("parquet", "s3://lake", "s3://lake/y", True),
                ("parquet", "s3://lake/x", "s3://lake/xy", False),
                ("parquet", "s3://lake/x", "gs://lake/x", False),
            ]
        ),
        (
            f"{{type: parquet, url: s3://lake/x, endpoint: https://a.example, {_HERE}}}",
            f"{{type: parquet, url: s3://lake/x, endpoint: https://b.example, {_HERE}}}",
            False,
        ),
        *(
            (
                f"{{type: nats, url: tls://a:4222, stream: S, subject: a, {_HERE}}}",
                f"{{type: nats, url: tls://a:4222, stream: {stream}, subject: b, {_HERE}}}",
                refused,
            )
            for stream, refused in (("S", True), ("S2", False))
        ),
    ],
)
def test_two_sinks_have_two_places(one: str, other: str, is_refused: bool, tmp_path: Path) -> None:
    """Records of one would be repetitions for the other, and lost."""
    text = f"sinks:\n  one: {one}\n  other: {other}\n"
    if is_refused:
        (fault,) = _faults(text, tmp_path)
        assert (fault.field, fault.code) == ("sinks.other.url", "E122")
    else:
        (tmp_path / "a.yaml").write_text(text)
        assert len(read(tmp_path / "a.yaml", {}).config.sinks.on()) == 3


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("data/store.db", True),
        ("./data/../data/SPOOL.db", True),
        ("data/ledger.key", True),
        ("data/collector.lock", True),
        ("link/store.db", True),
        ("seems.ndjson", True),
        ("data/records.ndjson", False),
        ("data/below/store.db", False),
        ("store.db", False),
    ],
)
def test_records_are_not_written_over_our_files(
    path: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("link").symlink_to("data")
    Path("seems.ndjson").symlink_to("data/spool.db")
    text = f"data: data\nsinks: {{ndjson: {{path: {path}}}}}\n"
    if is_refused:
        assert _places(_faults(text, tmp_path)) == [(2, "sinks.ndjson.path", "E122")]
    else:
        (tmp_path / "a.yaml").write_text(text)
        assert read(tmp_path / "a.yaml", {}).config.sinks["ndjson"].is_on


@for_each(
    ("store", "lake", "fault"),
    [
        ("when_full: skip", "path: a", ("sinks.store.when_full", "E106")),
        ("when_full: skip, limit: 9728KiB", "path: a", ("sinks.store.limit", "E122")),
        (
            "when_full: skip, limit: 5MiB",
            "path: a, when_full: skip, limit: 5MiB",
            ("sinks.store.limit", "E122"),
        ),
        ("when_full: skip, limit: 5MiB", "path: a, when_full: skip, limit: 4MiB", None),
        ("limit: 1MiB", "path: a, limit: 100MiB", None),
    ],
)
def test_sinks_that_skip_leave_room(
    store: str, lake: str, fault: tuple[str, str] | None, tmp_path: Path
) -> None:
    """Each has a limit, and together they leave a tenth of the spool to others."""
    text = f"spool: {{limit: 10MiB}}\nsinks: {{store: {{{store}}}, ndjson: {{{lake}}}}}"
    if fault is not None:
        (found,) = _faults(text, tmp_path)
        assert (found.field, found.code) == fault
        return
    (tmp_path / "a.yaml").write_text(text)
    sinks = read(tmp_path / "a.yaml", {}).config.sinks
    assert sinks["store"].share.limit in (5 << 20, 1 << 20)


@for_each("party", ["processor", "third"])
def test_another_party_has_a_name_and_purposes(party: str, tmp_path: Path) -> None:
    """Each of the two is asked for where a sink is not one's own, and nowhere else."""
    name, purposes = ", recipient: Crash Ltd", ", purposes: [security]"
    start = f"sinks: {{ndjson: {{path: a, party: {party}"
    for more, number in (("", 2), (name, 1), (purposes, 1)):
        faults = _faults(f"{start}{more}}}}}", tmp_path)
        assert _places(faults) == [(1, "sinks.ndjson.party", "E106")] * number
        assert "Crash" not in str(faults)
    (tmp_path / "a.yaml").write_text(f"{start}{name}{purposes}, country: NO}}}}")
    sink = read(tmp_path / "a.yaml", {}).config.sinks["ndjson"]
    assert (sink.recipient, sink.purposes, sink.country) == ("Crash Ltd", ("security",), "NO")
    (tmp_path / "a.yaml").write_text(f"sinks: {{ndjson: {{party: {party}}}}}")
    assert not read(tmp_path / "a.yaml", {}).config.sinks["ndjson"].is_on


@for_each(
    "setting",
    [
        "party: second",
        "party: ~",
        "purposes: []",
        "purposes: [a, a]",
        "purposes: [A b]",
        "purposes: [1]",
        "purposes: {a: b}",
        "recipient: ' '",
        "recipient: 5",
        r'recipient: "a\nb"',
        f"recipient: {'x' * 201}",
        "country: Norway",
        "country: no",
    ],
)
def test_what_a_sink_cannot_be(setting: str, tmp_path: Path) -> None:
    """Words for whose a sink is, what for, who and where."""
    (fault,) = _faults(f"sinks: {{ndjson: {{path: a, {setting}}}}}", tmp_path)
    assert (fault.field, fault.code) == (f"sinks.ndjson.{setting.partition(':')[0]}", "E107")


@for_each(
    "address",
    ["", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:1", "[127.0.0.1]:1", "[::1]",
     "a b:1", "http://a:1", "127.0.0.1:1 ", "127.0.0.1:-1", "127.0.0.1:١"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    """A host and a port, and nothing else."""
    with pytest.raises(ConfigFaults):
        read(None, {"COLLECTOR__HTTP__ADDRESS": address})


@pytest.mark.long
@given(st.text(max_size=40))
def test_no_text_in_the_environment_breaks_or_shows(text: str) -> None:
    """Any text in any setting is a setting or a fault, and is not shown in one."""
    marked = f"{_SECRET}{text}"
    for setting in settings():
        if setting.name in ("schema", "data") or "path" in setting.name:
            continue
        shown = ""
        try:
            read(None, {setting.variable: marked})
        except ConfigFaults as error:
            shown = str(error)
        assert _SECRET not in shown


@for_each(
    "text",
    [
        "{}: 1",
        "{}:\n  a: 1",
        "http: {{{}: 1}}",
        "sinks: {{{}: true}}",
        "sinks: {{{}: {{path: a}}}}",
        "sinks: {{store: {{{}: 1}}}}",
        "auth: {{tokens: {{{}: 1}}}}",
        "{0}: 1\n{0}: 2",
        "auth: {{{0}: 1, {0}: 2}}",
        "? {}\n: [1, 2",
        "about: {{{}: 'a'}}",
    ],
)
@for_each("secret", ["hunter", "Swordfish", "token-5", "correct_horse", "headquarters"])
def test_a_secret_for_a_key_is_not_quoted(text: str, secret: str, tmp_path: Path) -> None:
    faults = _faults(text.format(secret), tmp_path)
    assert faults
    assert secret not in "\n".join(map(str, faults))
    for name in (secret, f"HTTP__{secret}", f"SINKS__{secret}__PATH", f"AUTH__{secret}"):
        with pytest.raises(ConfigFaults) as caught:
            read(None, {f"COLLECTOR__{name.upper()}": "1"})
        assert secret.upper() not in str(caught.value).upper()


@for_each("character", [*"\x1b\x9b\u202e\u2066\u200b\U000e0041"])
@for_each(
    "text",
    [
        'schema: "a{}"',
        'data: "a{}"',
        'about: {{controller: "a{}"}}',
        'log: {{"l{}": 1}}',
        '"a{}": 1',
    ],
)
def test_a_text_that_a_terminal_would_obey(text: str, character: str, tmp_path: Path) -> None:
    """It is refused, and not shown, in the file and in the environment."""
    escaped = f"\\U{ord(character):08x}"
    faults = _faults(text.format(escaped), tmp_path)
    assert [fault.code for fault in faults] == ["E107"]
    for variable in ("SCHEMA", "DATA", "ABOUT__CONTROLLER", "SINKS__STORE__PATH"):
        with pytest.raises(ConfigFaults) as caught:
            read(None, {f"COLLECTOR__{variable}": f"a{character}"})
        faults.extend(caught.value.faults)
    assert all(map(str.isprintable, map(str, faults)))


_RECORDER = "recorder: {{enabled: true, keys: /jwks, {}}}"


@for_each(
    "more",
    [
        "",
        "address: off, unix: /run/r.sock",
        "address: '127.0.0.1:0'",
        "keys: 'https://meet.example.com:8443/jwks?a=b'",
        "bucket: 's3://recordings/eu', bucket_endpoint: 'https://s3.example.com'",
        "bucket: 's3://recordings', bucket_access_key: 'env:A', bucket_secret_key: 'file:/b'",
        "bucket: 'gs://recordings', retention: 8760h, longest: 1h, local_time: 90m",
    ],
)
def test_a_recorder(more: str, tmp_path: Path) -> None:
    """Needs a key set; everything else has a default. It is off unless it is switched on."""
    path = tmp_path / "a.yaml"
    path.write_text(_RECORDER.format(more).replace("keys: /jwks, keys", "keys"))
    assert read(path, {}).config.recorder.enabled
    assert not Config().recorder.enabled
    environ = {"COLLECTOR__RECORDER": "true", "COLLECTOR__RECORDER__KEYS": "/jwks"}
    assert read(None, environ).config.recorder.enabled


@for_each(
    ("text", "field", "code"),
    [
        ("recorder: true", "recorder.keys", "E106"),
        (_RECORDER.format("address: off"), "recorder.address", "E106"),
        (_RECORDER.format("address: '0.0.0.0:4320'"), "recorder.address", "E210"),
        (_RECORDER.format("address: '127.0.0.1:4318'"), "recorder.address", "E122"),
        (_RECORDER.format("data: collector-data"), "recorder.data", "E122"),
        (_RECORDER.format("data: collector-data/x"), "recorder.data", "E122"),
        (_RECORDER.format("data: ."), "recorder.data", "E122"),
        (_RECORDER.format("unix: collector-data/store.db"), "recorder.unix", "E122"),
        (_RECORDER.format("unix: a.sock") + "\nhttp: {unix: a.sock}", "recorder.unix", "E122"),
        (
            _RECORDER.format("data: r") + "\nsinks: {ndjson: {path: r/a.ndjson}}",
            "sinks.ndjson.path",
            "E122",
        ),
        (
            _RECORDER.format("bucket: 's3://a', bucket_secret_key: 'env:A'"),
            "recorder.bucket_secret_key",
            "E106",
        ),
        (
            _RECORDER.format(
                "bucket: 'gs://a', bucket_access_key: 'env:A', bucket_secret_key: 'env:A'"
            ),
            "recorder.bucket_access_key",
            "E122",
        ),
    ],
)
def test_recorders_that_do_not_fit(text: str, field: str, code: str, tmp_path: Path) -> None:
    (fault,) = _faults(text, tmp_path)
    assert (fault.field, fault.code) == (field, code)
    path = tmp_path / "off.yaml"
    path.write_text(text.replace("enabled: true", "enabled: false"))
    if "enabled" in text and "sinks" not in text and "http" not in text:
        assert not read(path, {}).config.recorder.enabled
    path.write_text(_RECORDER.format("address: '0.0.0.0:4320'") + "\ntls: {certificate: a, key: b}")
    read(path, {})


@for_each(
    "setting",
    [
        "keys: 'http://meet.example.com/jwks'",
        "keys: 'file:///jwks'",
        "keys: 'https://user:{secret}@meet.example.com/jwks'",
        "keys: 'https://meet.example.com/jwks#{secret}'",
        "keys: 'ftp://{secret}'",
        "keys: ['{secret}']",
        "bucket: 'https://{secret}'",
        "bucket: 's3://key:{secret}@bucket'",
        "bucket: 's3://bucket?secret={secret}'",
        "bucket: 's3://bucket/../{secret}'",
        "bucket_endpoint: 'http://s3.example.com/{secret}'",
        "bucket_endpoint: 'https://a:{secret}@s3.example.com'",
        "bucket_access_key: '{secret}'",
        "bucket_secret_key: '{secret}'",
        "bucket_secret_key: 'env:{secret} 1'",
        "eddsa: '{secret}'",
        "retention: 30d",
        "longest: 169h",
        "queue: 1MiB",
    ],
)
def test_what_a_recorder_cannot_have(setting: str, tmp_path: Path) -> None:
    """No address without encryption, and no secret in the file; a fault shows none."""
    text = f"recorder: {{{setting.replace('{secret}', _SECRET)}}}"
    (fault,) = _faults(text, tmp_path)
    assert (fault.field, fault.code) == (f"recorder.{setting.partition(':')[0]}", "E107")
    assert _SECRET not in str(fault)


def test_its_example_is_a_configuration(tmp_path: Path) -> None:
    """The file that the documentation shows is taken."""
    text = (_ROOT / "docs" / "configuration.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        (tmp_path / "a.yaml").write_text(example)
        read(tmp_path / "a.yaml", {})
