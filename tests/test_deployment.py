"""The files under ``deploy/``: what they name exists, what they configure starts and answers, and
the tools that will read them take them.

``make .venv-deploy/.made`` installs what validates manifests into an environment of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from collector.config.sink_types import BUILT_IN
from collector.ingest.refusals import REFUSALS
from collector.ops.metrics import METRICS
from collector.ops.requests import REFUSAL_CODES, REFUSING, STATUSES
from tests.conftest import required
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each
from tests.support.sidecar import COMMAND, started

_ROOT = Path(__file__).parents[1]
_DEPLOY = _ROOT / "deploy"
_VALIDATORS = _ROOT / ".venv-deploy" / "bin"
_UNIT = _DEPLOY / "systemd" / "collector.service"
_MANIFESTS = sorted((_DEPLOY / "kubernetes").glob("*.yaml"))
_ALERTS = _DEPLOY / "prometheus" / "alerts.yaml"
_METRIC = re.compile(r"\b(?:collector|process)_[a-z_]+\b")
_OF_THE_PROCESS = {"process_resident_memory_bytes"}


def _documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


def _rules() -> list[dict[str, Any]]:
    return [rule for group in _documents(_ALERTS)[0]["groups"] for rule in group["rules"]]


def _queries() -> Iterator[str]:
    """What alerts and dashboard ask for."""
    yield from (rule["expr"] for rule in _rules())
    for panel in json.loads((_DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        required(f"{program} (Debian: apt install {package})")
    return str(found)


def _series_of(name: str) -> set[str]:
    """The names of the series of a metric."""
    is_histogram = name.endswith("_seconds") and "le" not in METRICS[name].labels
    return {name, *(f"{name}_{part}" for part in ("bucket", "count", "sum") if is_histogram)}


def _series() -> set[str]:
    """All names of series that a sidecar shows."""
    return _OF_THE_PROCESS.union(*map(_series_of, METRICS))


def test_queries_name_what_there_is() -> None:
    """Each metric of an alert or a panel is one that a sidecar shows, and so is each label."""
    labels = {label for metric in METRICS.values() for label in metric.labels}
    known = _series()
    for query in _queries():
        named = set(_METRIC.findall(query))
        assert named <= known, query
        by = ",".join(re.findall(r"(?:by|without) \(([^)]*)\)", query))
        assert {each.strip() for each in by.split(",") if each} <= labels | {"instance", "le"}


def test_queries_select_what_there_is() -> None:
    """Each label that selects is one of its metric or of Prometheus, each value that is written is
    one that the label can have, and each code of a refusal is seen by an alert."""
    selecting = re.compile(r"(collector_[a-z_]+)\{([^}]*)\}")
    matcher = re.compile(r'([a-z]+)(=~|!~|!=|=)"([^"]*)"')
    values = {
        "code": set(REFUSAL_CODES),
        "receiver": set(REFUSING),
        "status": set(STATUSES),
        "outcome": {"admitted", "rejected"},
    }
    for query in _queries():
        for name, selected in selecting.findall(query):
            metric = next(each for each in METRICS if name in _series_of(each))
            assert matcher.sub("", selected).strip(",") == "", query
            for label, _, text in matcher.findall(selected):
                if not text.startswith("$"):
                    assert label in (*METRICS[metric].labels, "job"), query
                    assert any(re.fullmatch(text, value) for value in values[label]), query
    (refused,) = (rule["expr"] for rule in _rules() if rule["alert"] == "CollectorSendersRefused")
    (without,) = re.findall(r'code!~"([^"]*)"', refused)
    unseen = {code for code in REFUSAL_CODES if re.fullmatch(without, code)}
    assert unseen == {each.code for each in REFUSALS if each.status >= 500}


def test_promtool_takes_alerts_and_queries(tmp_path: Path) -> None:
    """The dashboard's as rules that record, with a time in place of Grafana's."""
    promtool = _need("promtool", "prometheus")
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(_queries())
    ]
    file = tmp_path / "panels.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(_ALERTS), str(file)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


_HISTORIES: dict[str, dict[str, str]] = {
    "a spool that is full of what one sink does not take": {
        "collector_spool_writable{X}": "1x5 0x30",
        'collector_spool_blocking{X,sink="lake"}': "0x36",
        'collector_spool_blocking{X,sink="warehouse"}': "0x5 1x30",
    },
    "a disk that takes nothing": {
        "collector_spool_writable{X}": "1x5 0x30",
        'collector_spool_blocking{X,sink="warehouse"}': "0x36",
    },
    "a sink with half of the spool, which is late and fails": {
        'collector_spool_bytes{X,sink="lake"}': "10x36",
        'collector_spool_bytes{X,sink="warehouse"}': "0+20x36",
        'collector_sink_limit_bytes{X,sink="lake"}': "1000x36",
        'collector_sink_limit_bytes{X,sink="warehouse"}': "1000x36",
        'collector_spool_oldest_age_seconds{X,sink="lake"}': "3x36",
        'collector_spool_oldest_age_seconds{X,sink="warehouse"}': "0+60x36",
        'collector_sink_failures_total{X,sink="lake",cause="denied"}': "7x36",
        'collector_sink_failures_total{X,sink="warehouse",cause="denied"}': "0+5x36",
        'collector_sink_failures_total{X,sink="warehouse",cause="busy"}': "0x36",
        'collector_sink_last_success_timestamp_seconds{X,sink="lake"}': "0x36",
        'collector_sink_last_success_timestamp_seconds{X,sink="warehouse"}': "0x36",
    },
    "a sink that skips, and one that is full soon": {
        'collector_sink_skipping{X,sink="lake"}': "0x36",
        'collector_sink_skipping{X,sink="warehouse"}': "0x5 1x30",
        'collector_sink_full_in_seconds{X,sink="lake"}': "7200x36",
        'collector_sink_full_in_seconds{X,sink="warehouse"}': "999999x36",
    },
}
_FIRING: dict[str, dict[str, dict[str, str]]] = {
    "a spool that is full of what one sink does not take": {
        "CollectorSpoolFull": {"sink": "warehouse"},
    },
    "a disk that takes nothing": {"CollectorSpoolNotWritable": {}},
    "a sink with half of the spool, which is late and fails": {
        "CollectorSpoolFilling": {"sink": "warehouse"},
        "CollectorDeliveryLate": {"sink": "warehouse"},
        "CollectorSinkFailing": {"sink": "warehouse", "cause": "denied"},
    },
    "a sink that skips, and one that is full soon": {
        "CollectorSinkSkipping": {"sink": "warehouse"},
        "CollectorSinkFullSoon": {"sink": "lake"},
    },
}
_OF_SPOOL = (
    *("CollectorSpoolFull", "CollectorSpoolNotWritable", "CollectorSpoolFilling"),
    *("CollectorDeliveryLate", "CollectorSinkFailing"),
    *("CollectorSinkSkipping", "CollectorSinkFullSoon"),
)


@for_each("name", _HISTORIES)
def test_alerts_of_the_spool_name_the_sink(tmp_path: Path, name: str) -> None:
    promtool = _need("promtool", "prometheus")
    found = {rule["alert"]: rule for rule in _rules()}
    expected = []
    for alert in _OF_SPOOL:
        firing = []
        if (labels := _FIRING[name].get(alert)) is not None:
            summary = found[alert]["annotations"]["summary"]
            for label, value in labels.items():
                summary = summary.replace(f"{{{{ $labels.{label} }}}}", value)
            assert "{{" not in summary
            each = {"job": "collector", "instance": "a", **found[alert]["labels"], **labels}
            firing = [{"exp_labels": each, "exp_annotations": {"summary": summary}}]
        expected.append({"eval_time": "35m", "alertname": alert, "exp_alerts": firing})
    series = [
        {"series": key.replace("X", 'job="collector",instance="a"'), "values": values}
        for key, values in _HISTORIES[name].items()
    ]
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": expected}]
    file = tmp_path / "alerts_test.json"
    file.write_text(json.dumps({"rule_files": [str(_ALERTS)], "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_the_guide_has_every_alert() -> None:
    guide = (_ROOT / "docs" / "operating.md").read_text()
    for rule in _rules():
        assert f"`{rule['alert']}`" in guide


def test_systemd_calls_the_unit_safe() -> None:
    """An exposure of at most 2.0, of 10."""
    command = (_need("systemd-analyze", "systemd"), "security", "--offline=true", "--threshold=20")
    done = subprocess.run([*command, str(_UNIT)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def _allowed(systemd_analyze: str, name: str) -> set[str]:
    """The system calls of a set, and of those in it."""
    command = [systemd_analyze, "syscall-filter", "--no-pager", name]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in text.splitlines() if line.startswith(" ")]
    nested = [word for word in words if word.startswith("@")]
    plain = {word for word in words if re.fullmatch(r"[a-z_0-9]+", word)}
    return plain.union(*(_allowed(systemd_analyze, each) for each in nested))


@pytest.mark.long
def test_the_unit_allows_what_a_sidecar_calls(tmp_path: Path) -> None:
    analyze, strace = _need("systemd-analyze", "systemd"), _need("strace", "strace")
    filters = re.findall(r"^SystemCallFilter=(.*)$", _UNIT.read_text(), re.MULTILINE)
    allowed: set[str] = set()
    for line in filters:
        sets = [_allowed(analyze, name) for name in line.removeprefix("~").split()]
        allowed = allowed.difference(*sets) if line.startswith("~") else allowed.union(*sets)
    trace = tmp_path / "trace"
    traced = [strace, "-f", "-qq", "--signal=none", "-o", str(trace), *COMMAND]
    with started(tmp_path, command=traced) as sidecar:
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}\n').status == 200
        tracer = Path(f"/proc/{sidecar.process.pid}/task/{sidecar.process.pid}/children")
        (keeper, *_) = tracer.read_text().split()
        os.kill(int(keeper), signal.SIGTERM)
        assert sidecar.process.wait(WAIT_SECONDS) == 0
    called = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", trace.read_text(), re.MULTILINE))
    as_root = {"fchown"}  # SQLite does that for root only
    assert "fdatasync" in called or "fsync" in called
    assert called - allowed - as_root == set()


def test_manifests_are_valid() -> None:
    if not (_VALIDATORS / "kubernetes-validate").exists():
        required("what validates manifests (make .venv-deploy/.made)")
    commands = [
        [str(_VALIDATORS / "kubernetes-validate"), "--strict", *map(str, _MANIFESTS)],
        [
            *(str(_VALIDATORS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"),
            str(_DEPLOY / "compose.yaml"),
        ],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)


def test_no_container_is_more_than_it_must_be() -> None:
    """Each container of ours: no root, no privilege, no writable root."""
    for path in _MANIFESTS:
        for document in _documents(path):
            if document["kind"] != "StatefulSet":
                continue
            pod = document["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                security = container["securityContext"]
                assert security["readOnlyRootFilesystem"] is True
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_service_answers_probes_without_a_certificate(tmp_path: Path) -> None:
    """Its configuration, as the manifest has it, starts; the kubelet calls it by an address and
    verifies nothing. Metrics want a token."""
    (config,) = (
        document["data"]["collector.yaml"]
        for document in _documents(_DEPLOY / "kubernetes" / "service.yaml")
        if document["kind"] == "ConfigMap"
    )
    authority = Authority(tmp_path)
    pair = authority.issue("collector")
    for before, after in {
        "/var/lib/collector": str(tmp_path / "data"),
        "/etc/collector-tls/tls.crt": str(pair.certificate),
        "/etc/collector-tls/tls.key": str(pair.key),
        **{f"0.0.0.0:{port}": "0.0.0.0:0" for port in (4317, 4318, 4319)},
    }.items():
        assert before in config
        config = config.replace(before, after)
    file = tmp_path / "collector.yaml"
    file.write_text(config)
    addresses = {f"COLLECTOR__{name}__ADDRESS": "0.0.0.0:0" for name in ("HTTP", "GRPC", "ADMIN")}
    tokens = {"COLLECTOR__AUTH__TOKENS": "0" * 64}
    with started(tmp_path, "--config", str(file), environ=addresses | tokens) as sidecar:
        found = {path: _probed(sidecar.ports["admin"], path) for path in _PROBES}
    assert found == _PROBES


def _environ(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container, with any free port."""
    stated = {each["name"]: str(each.get("value", "")) for each in container["env"]}
    return {name: text.replace(":4319", ":0") for name, text in stated.items()}


def test_the_sidecar_answers_kubelet_and_prometheus(tmp_path: Path) -> None:
    pod = _documents(_DEPLOY / "kubernetes" / "sidecar.yaml")[0]["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe")]
    assert {(probe["path"], probe["port"]) for probe in probes} == {("/livez", "admin")}
    assert container["ports"] == [{"name": "admin", "containerPort": 4319}]
    with started(tmp_path, environ=_environ(container)) as sidecar:
        for path in ("/livez", "/readyz", "/metrics"):
            assert _asked(sidecar.ports["admin"], path, _address()) == 200
        with socket.socket() as sender:
            is_loopback = _address() == "127.0.0.1"
            assert is_loopback or sender.connect_ex((_address(), sidecar.ports["http"])) != 0


def test_prometheus_reaches_the_sidecar_of_compose(tmp_path: Path) -> None:
    services = _documents(_DEPLOY / "compose.yaml")[0]["services"]
    collector = services["collector"]
    (job,) = _documents(_DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert collector["network_mode"] == f"service:{target.partition(':')[0]}"
    stated = collector["environment"].items()
    environ = {name: str(text).replace(":4319", ":0") for name, text in stated}
    with started(tmp_path, environ=environ) as sidecar:
        assert _asked(sidecar.ports["admin"], "/metrics", _address(), host=target) == 200
        assert _asked(sidecar.ports["admin"], "/metrics", _address(), host="else:4319") == 421


def _asked(port: int, path: str, address: str, host: str | None = None) -> int:
    connection = http.client.HTTPConnection(address, port, timeout=WAIT_SECONDS)
    try:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_service_keeps_retries_and_certificates() -> None:
    """A client stays with its pod, which knows its keys; a secret that is replaced is taken."""
    documents = _documents(_DEPLOY / "kubernetes" / "service.yaml")
    (service,) = (each for each in documents if each["kind"] == "Service")
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    (config,) = (each["data"] for each in documents if each["kind"] == "ConfigMap")
    assert YAML(typ="safe", pure=True).load(config["collector.yaml"])["watch"] is True


def test_promtool_takes_what_is_scraped() -> None:
    """The configuration of Prometheus names alerts and a job that there are."""
    promtool = _need("promtool", "prometheus")
    folder = _DEPLOY / "prometheus"
    command = [promtool, "check", "config", str(folder / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_unit_tries_again_what_may_pass() -> None:
    """Any failure but 78."""
    unit = _UNIT.read_text()
    assert "\nRestart=on-failure\n" in unit
    assert re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE) == ["78"]


_PROBES = {"/livez": 200, "/readyz": 200, "/metrics": 401}


def _probed(port: int, path: str) -> int:
    """The status of a probe that calls this machine by an address that others have for it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        _address(), port, timeout=WAIT_SECONDS, context=context
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _address() -> str:
    """An address of this machine that is no loopback's, or loopback's where there is no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(asking.getsockname()[0])


def test_the_image_is_made_of_what_is_there() -> None:
    """What it copies exists, and what it installs and runs is Collector's."""
    text = (_DEPLOY / "Dockerfile").read_text().replace(" \\\n", " ")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    ours = [name for names in copied for name in names if not name.startswith(("--", "/opt"))]
    assert ours
    assert all((_ROOT / name).exists() for name in ours)
    extras = re.search(r"'\.\[([a-z,]+)\]'", text)
    assert extras is not None
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    there = set(project["optional-dependencies"])
    assert {"sidecar", "grpc", "signing", *(there & BUILT_IN.keys())} == set(extras[1].split(","))
    assert 'CMD ["collector", "status", "--quiet"]' in text
    assert "USER 65532" in text
