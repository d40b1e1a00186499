"""The description of a machine: recordings of real machines, and this one."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.filter import Filter
from collector.schema import load_schema
from collector.sdk.host import MAX_BYTES, SYSTEMS, host_event
from tests.support.programs import script

_FOLDER = Path(__file__).parent / "machines"
_MACHINES = sorted(_FOLDER.glob("*.toml"))
_FIELDS = {
    "device.type",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "os.type",
    "os.name",
    "os.version",
    "os.build_id",
}
_SMBIOS = "/sys/class/dmi/id/"
_VERSION = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\"
_BIOS = "HARDWARE\\DESCRIPTION\\System\\BIOS\\"
_SERVICES = "/System/Library/CoreServices/"
_ASKED = {
    "linux": {
        "/etc/os-release",
        "/usr/lib/os-release",
        _SMBIOS + "sys_vendor",
        _SMBIOS + "product_name",
        _SMBIOS + "product_family",
        _SMBIOS + "chassis_type",
        "/sys/firmware/devicetree/base/model",
    },
    "win32": {
        *(f"{_VERSION}Current{name}" for name in ("BuildNumber", "Version")),
        *(f"{_VERSION}Current{name}VersionNumber" for name in ("Major", "Minor")),
        _VERSION + "ProductName",
        _VERSION + "UBR",
        *(f"{_BIOS}System{name}" for name in ("Manufacturer", "ProductName", "Family")),
        "PowerDeterminePlatformRoleEx",
    },
    "darwin": {
        "hw.model",
        _SERVICES + ".SystemVersionPlatform.plist",
        _SERVICES + "SystemVersion.plist",
    },
}
"""Everything that may be asked of a system. No serial number, name or machine id is among it."""


class _Recording:
    """The facts of a machine, and the names that were read."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.parts = tomllib.loads(self.text)
        self.asked: set[str] = set()

    def __call__(self, name: str) -> str:
        self.asked.add(name)
        said: str = self.parts["says"].get(name, "")
        return said.strip(" \t\r\n\0")

    def event(self) -> dict[str, str]:
        said = SYSTEMS[self.parts["system"]].describe(self)
        return {name: text for name, text in said.items() if text}


def test_a_recorded_machine_is_described() -> None:
    """The event has the expected fields, and the record all that the shipped schema admits."""
    for path in _MACHINES:
        machine = _Recording(path)
        event = machine.event()
        assert event == machine.parts["event"]
        admission = Filter(load_schema("conferencing")).admit(event)
        refused = machine.parts.get("refused", [])
        assert sorted(admission.tally.dropped) == sorted(refused)
        kept = {name: text for name, text in event.items() if name not in refused}
        assert [*admission.records] == [{"schema": "conferencing/1.0.0", **kept}]


def test_a_recording_says_where_it_comes_from() -> None:
    """Its first line names the machine or the document."""
    for path in _MACHINES:
        assert _Recording(path).text.startswith("# ")


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_else_is_asked(system: str) -> None:
    """All recordings together read exactly the listed names."""
    machines = [_Recording(path) for path in _MACHINES]
    machines = [machine for machine in machines if machine.parts["system"] == system]
    for machine in machines:
        machine.event()
    assert set().union(*(machine.asked for machine in machines)) == _ASKED[system]


@pytest.mark.parametrize("system", SYSTEMS)
@given(st.data())
def test_whatever_a_system_says_is_text_or_nothing(system: str, data: st.DataObject) -> None:
    """Any text under any name gives known fields and never an exception."""
    odd = st.sampled_from(['NAME="', "<plist><dict><key>", "22000", "²²²²²", "10", "LENOVO"])
    texts = st.one_of(st.text(), odd)
    said = {name: data.draw(texts) for name in _ASKED[system]}
    found = SYSTEMS[system].describe(said.__getitem__)
    assert set(found) <= _FIELDS
    assert all(type(text) is str for text in found.values())


@pytest.mark.skipif(sys.platform != "linux", reason="this looks at Linux")
def test_this_machine_is_described() -> None:
    """The shipped schema admits every fact of this machine."""
    admission = Filter(load_schema("conferencing")).admit(host_event())
    assert admission.tally.admitted == 1
    assert admission.records[0]["os.type"] == "linux"


@pytest.mark.skipif(sys.platform != "linux", reason="this looks at Linux")
def test_this_machine_is_asked_nothing_else() -> None:
    """No other file is opened, no program started, no name resolved."""
    program = (
        "import sys\n"
        "from collector.sdk.host import host_event\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, found: seen.append((name, found[:1])))\n"
        "event = host_event()\n"
        "for name, found in list(seen):\n"
        "    if name.split('.')[0] in ('open', 'os', 'socket', 'subprocess', 'ctypes', 'import'):\n"
        "        print(name, *found)\n"
    )
    seen = dict.fromkeys(script(program).stdout.splitlines())
    assert "open /etc/os-release" in seen
    assert set(seen) <= {f"open {name}" for name in _ASKED["linux"]}


def test_other_systems_have_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown system is not guessed."""
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert host_event() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere these are there")
def test_what_is_not_there_is_empty() -> None:
    """Sources of other systems, and files that are missing or unreadable, have no text."""
    assert SYSTEMS["win32"].read(_VERSION + "ProductName") == ""
    assert SYSTEMS["darwin"].read("hw.model") == ""
    assert SYSTEMS["linux"].read("/nowhere/at/all") == ""
    assert SYSTEMS["linux"].read("/etc") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="a file without an end")
def test_a_file_without_an_end_is_read_from_its_beginning() -> None:
    """4 KiB are read, and not a byte more."""
    assert len(SYSTEMS["linux"].read("/dev/zero")) == 0  # zeros are blanks of the device tree
    assert len(SYSTEMS["linux"].read("/dev/urandom")) <= MAX_BYTES
