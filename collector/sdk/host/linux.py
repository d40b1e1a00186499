"""Linux: os-release of the distribution, SMBIOS or the device tree of the machine."""

from __future__ import annotations

import re

from collector.sdk.host.firmware import device, is_virtual
from collector.sdk.host.source import Source, text_of

__all__ = ["describe", "read"]

read = text_of

_SMBIOS = "/sys/class/dmi/id/"
_TREE = "/sys/firmware/devicetree/base/model"
_CHASSIS = {
    **dict.fromkeys("3 4 5 6 7 13 15 16 24 35 36".split(), "desktop"),
    **dict.fromkeys("8 9 10 14 31".split(), "laptop"),
    **dict.fromkeys("30 32".split(), "tablet"),
}
"""Types of chassis in the SMBIOS specification (DSP0134, 7.4.1). Servers are none of our types."""

_CHROME = ("chromeos", "chromiumos")
_ASSIGNMENT = re.compile(r"""^([A-Z][A-Z0-9_]*)=(["']?)(.*)\2[ \t\r]*$""", re.MULTILINE)
_REVISION = re.compile(r" Rev [0-9.]{1,5}$")


def describe(source: Source) -> dict[str, str]:
    """The fields of this machine; those it does not say are empty or missing."""
    return {**_system(source), **_device(source)}


def _system(source: Source) -> dict[str, str]:
    text = source("/etc/os-release") or source("/usr/lib/os-release")
    says = {name: _unquoted(value) for name, _, value in _ASSIGNMENT.findall(text)}
    return {
        "os.type": "chromeos" if says.get("ID") in _CHROME else "linux",
        "os.name": says.get("NAME") or "Linux",
        "os.version": says.get("VERSION_ID", ""),
        "os.build_id": says.get("BUILD_ID", ""),
    }


def _unquoted(value: str) -> str:
    return re.sub(r"""\\([$"'\\`])""", r"\1", value)


def _device(source: Source) -> dict[str, str]:
    maker, product = source(_SMBIOS + "sys_vendor"), source(_SMBIOS + "product_name")
    if not maker and not product:
        return _board(source(_TREE))
    if is_virtual(maker, product):
        return {}
    chassis = _CHASSIS.get(source(_SMBIOS + "chassis_type"), "")
    return {"device.type": chassis, **device(maker, product, source(_SMBIOS + "product_family"))}


def _board(model: str) -> dict[str, str]:
    """A board with a device tree. Revisions of one board are the same product."""
    virtual = is_virtual(model) or model.startswith("linux,")  # linux,dummy-virt is QEMU's
    return {} if virtual else {"device.model.name": _REVISION.sub("", model)}
