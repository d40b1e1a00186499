"""``host_event``: the kind of this machine, its device and operating system.

It never reads facts that identify a single machine: serial number, host name, network card, machine
id. Its texts are unchecked input for the filter, like any event. Each operating system has a
function that describes the machine, and a ``Source`` of the facts for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import NamedTuple

MAX_BYTES = 4096
"""The most bytes that are read of a file; all files of the sources are shorter."""

Source = Callable[[str], str]
"""Returns the text under a name (a path, a key, a property) without blanks around it, or an empty
text if there is none."""


def _read_text(path: str) -> str:
    """Read the beginning of a system file; a ``Source``."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - without Path's import
            return file.read(MAX_BYTES).decode("utf-8", "replace").strip(" \t\r\n\0")
    except OSError:
        return ""


_FILLERS = frozenset(
    "00 0123456789 123456789 allseries defaultstring empty family invalid na none notapplicable"
    " notavailable notspecified null oem productname sku standard systemfamily systemmanufacturer"
    " systemmodel systemname systemproductname systemversion tobefilledbyoem type1family"
    " type1manufacturer type1productconfigid undefined unknown xxx".split()
)
"""Placeholders by makers who set no name: their letters and digits, in lower case."""

_VIRTUAL = tuple(
    "ahv,alibaba cloud,amazon ec2,apple virtualization,bhyve,bochs,cloudstack,digitalocean,droplet,"
    "google compute engine,hvm domu,hyper-v,innotek gmbh,kubevirt,kvm,nutanix,openstack,ovirt,"
    "parallels,qemu,red hat,rhev hypervisor,rhel,scaleway,upcloud,virtual machine,virtualbox,"
    "virtualmac,vmw,vserver,vultr,xen".split(",")
)
"""How the names of makers and products of virtual machines begin: systemd's table
(src/basic/virt.c), clouds with their own names in the firmware, and Hyper-V, which systemd
recognises by its processor."""

_APPLE = re.compile(r"[A-Za-z]{3,16}[0-9]{1,2},[0-9]{1,2}")


def is_virtual(*names: str) -> bool:
    """Return whether the name of a maker or a product is that of a virtual machine."""
    return any(name.casefold().startswith(_VIRTUAL) for name in names)


def device_fields(maker: str, product: str, family: str) -> dict[str, str]:
    """Return the fields of a device: its maker, and its model as an identifier or as a name."""
    if is_virtual(maker, product):
        return {}
    maker, product, family = map(_without_filler, (maker, product, family))
    fields = {"device.manufacturer": maker}
    if maker == "LENOVO":  # its product is a machine type, for example 20MWCTO1WW
        return {**fields, "device.model.identifier": product, "device.model.name": family}
    kind = "identifier" if _APPLE.fullmatch(product) else "name"
    return {**fields, f"device.model.{kind}": product}


def _without_filler(text: str) -> str:
    return "" if re.sub(r"[^a-z0-9]", "", text.casefold()) in _FILLERS else text


# -- Linux: os-release of the distribution, SMBIOS or the device tree of the machine ---------------

_SMBIOS = "/sys/class/dmi/id/"
_DEVICE_TREE = "/sys/firmware/devicetree/base/model"
_CHASSIS = {
    **dict.fromkeys("3 4 5 6 7 13 15 16 24 35 36".split(), "desktop"),
    **dict.fromkeys("8 9 10 14 31".split(), "laptop"),
    **dict.fromkeys("30 32".split(), "tablet"),
}
"""Types of chassis in the SMBIOS specification (DSP0134, 7.4.1). Servers have no type."""

_CHROME_IDS = ("chromeos", "chromiumos")
_ASSIGNMENT = re.compile(r"""^([A-Z][A-Z0-9_]*)=(["']?)(.*)\2[ \t\r]*$""", re.MULTILINE)
_REVISION = re.compile(r" Rev [0-9.]{1,5}$")


def _describe_linux(source: Source) -> dict[str, str]:
    """Describe this machine; fields without a fact are empty or missing."""
    return {**_linux_system(source), **_smbios_device(source)}


def _linux_system(source: Source) -> dict[str, str]:
    text = source("/etc/os-release") or source("/usr/lib/os-release")
    release = {name: _unquoted(value) for name, _, value in _ASSIGNMENT.findall(text)}
    return {
        "os.type": "chromeos" if release.get("ID") in _CHROME_IDS else "linux",
        "os.name": release.get("NAME") or "Linux",
        "os.version": release.get("VERSION_ID", ""),
        "os.build_id": release.get("BUILD_ID", ""),
    }


def _unquoted(value: str) -> str:
    return re.sub(r"""\\([$"'\\`])""", r"\1", value)


def _smbios_device(source: Source) -> dict[str, str]:
    maker, product = source(_SMBIOS + "sys_vendor"), source(_SMBIOS + "product_name")
    if not maker and not product:
        return _board(source(_DEVICE_TREE))
    if is_virtual(maker, product):
        return {}
    chassis = _CHASSIS.get(source(_SMBIOS + "chassis_type"), "")
    return {
        "device.type": chassis,
        **device_fields(maker, product, source(_SMBIOS + "product_family")),
    }


def _board(model: str) -> dict[str, str]:
    """Describe a board with a device tree, without its revision: all revisions are the same
    product."""
    virtual = is_virtual(model) or model.startswith("linux,")  # linux,dummy-virt is QEMU's
    return {} if virtual else {"device.model.name": _REVISION.sub("", model)}


# -- macOS: Apple's property list of the version, and the kernel's name of the model ---------------

_MAC_MODEL = "hw.model"
_SERVICES = "/System/Library/CoreServices/"
_VERSIONS = (f"{_SERVICES}.SystemVersionPlatform.plist", f"{_SERVICES}SystemVersion.plist")
"""Programs built before macOS 11 read 10.16 from the second file. The first is the same for all."""

_PLIST_TEXT = re.compile(r"<key>(\w{1,32})</key>\s{0,16}<string>([^<&]{1,64})</string>", re.ASCII)
"""A text of a property list. A parser is not needed: these lists are flat."""

_MAC_TYPES = {"MacBook": "laptop", "iMac": "desktop", "Macmini": "desktop", "MacPro": "desktop"}
"""How identifiers begin. Since 2022 all look like ``Mac14,2``, which does not tell the type."""


def _describe_macos(source: Source) -> dict[str, str]:
    """Describe this machine; fields without a fact are empty or missing."""
    version = next(
        filter(None, (dict(_PLIST_TEXT.findall(source(name))) for name in _VERSIONS)), {}
    )
    return {
        "os.type": "darwin",
        "os.name": version.get("ProductName", "macOS"),
        "os.version": version.get("ProductVersion", ""),
        "os.build_id": version.get("ProductBuildVersion", ""),
        **_mac_device(source(_MAC_MODEL)),
    }


def _mac_device(model: str) -> dict[str, str]:
    if not model or is_virtual(model):
        return {}
    kind = next((kind for name, kind in _MAC_TYPES.items() if model.startswith(name)), "")
    return {
        "device.type": kind,
        "device.manufacturer": "Apple",
        "device.model.identifier": model,
    }


def _read_macos(name: str) -> str:
    """Read a file, or a text of the kernel's state; a ``Source``."""
    return _sysctl(name) if name == _MAC_MODEL else _read_text(name)


def _sysctl(name: str) -> str:
    import ctypes  # noqa: PLC0415 - not everywhere

    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    try:
        sysctl = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return ""
    failed = sysctl(name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else text.value.decode("utf-8", "replace")


# -- Windows: two registry keys, and the machine's role as its firmware states it. WMI and
# ``platform.win32_ver`` are not used: both may take seconds.

_VERSION_KEY = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\"
_BIOS_KEY = "HARDWARE\\DESCRIPTION\\System\\BIOS\\"
_ROLE = "PowerDeterminePlatformRoleEx"
_ROLES = {"1": "desktop", "2": "laptop", "3": "desktop", "8": "tablet"}
"""POWER_PLATFORM_ROLE of Microsoft's powrprof.h: desktop, mobile, workstation, slate."""

_WINDOWS = re.compile(r"Windows (Server )?[0-9][0-9.]{0,4}( R2)?")
_ELEVEN = 22000
"""The first build of Windows 11, whose registry still has the name of 10."""


def _describe_windows(source: Source) -> dict[str, str]:
    """Describe this machine; fields without a fact are empty or missing."""
    build = source(_VERSION_KEY + "CurrentBuildNumber")
    update = source(_VERSION_KEY + "UBR")
    return {
        "os.type": "windows",
        "os.name": _windows_name(source(_VERSION_KEY + "ProductName"), build),
        "os.version": f"{_windows_version(source)}.{build}",
        "os.build_id": f"{build}.{update}" if update else build,
        **_registry_device(source),
    }


def _windows_name(product: str, build: str) -> str:
    """Return the product without its edition, which describes the licence, not the machine."""
    found = _WINDOWS.match(product)
    name = found[0] if found else "Windows"
    is_eleven = name == "Windows 10" and re.fullmatch("[0-9]{5}", build) and int(build) >= _ELEVEN
    return "Windows 11" if is_eleven else name


def _windows_version(source: Source) -> str:
    """Return the kernel's version, ``10.0``. Before Windows 10 the registry has it as one text."""
    major = source(_VERSION_KEY + "CurrentMajorVersionNumber")
    minor = source(_VERSION_KEY + "CurrentMinorVersionNumber")
    return f"{major}.{minor}" if major and minor else source(_VERSION_KEY + "CurrentVersion")


def _registry_device(source: Source) -> dict[str, str]:
    maker, product = (
        source(_BIOS_KEY + "SystemManufacturer"),
        source(_BIOS_KEY + "SystemProductName"),
    )
    if is_virtual(maker, product):
        return {}
    role = _ROLES.get(source(_ROLE), "")
    return {
        "device.type": role,
        **device_fields(maker, product, source(_BIOS_KEY + "SystemFamily")),
    }


if sys.platform == "win32":

    def _read_registry(name: str) -> str:
        """Read a value of the local machine's registry, or the machine's role; a ``Source``."""
        import ctypes  # noqa: PLC0415 - not everywhere
        import winreg  # noqa: PLC0415 - only here

        try:
            if name == _ROLE:
                return str(ctypes.WinDLL("powrprof").PowerDeterminePlatformRoleEx(2))
            key, _, value = name.rpartition("\\")
            access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, access) as opened:
                return str(winreg.QueryValueEx(opened, value)[0]).strip()
        except (OSError, AttributeError):
            return ""

else:

    def _read_registry(name: str) -> str:
        """Return nothing: this is not Windows."""
        del name
        return ""


class System(NamedTuple):
    """An operating system."""

    describe: Callable[[Source], dict[str, str]]
    read: Source


SYSTEMS = {
    "darwin": System(_describe_macos, _read_macos),
    "linux": System(_describe_linux, _read_text),
    "win32": System(_describe_windows, _read_registry),
}
"""By ``sys.platform``."""


def host_event() -> dict[str, str]:
    """Return an event about this machine: field name → text, for the facts that it states.

    ``device.type``, ``device.manufacturer``, ``device.model.identifier``, ``device.model.name``,
    ``os.type``, ``os.name``, ``os.version``, ``os.build_id``. A virtual machine has no device. On
    systems other than Linux, macOS and Windows the event is empty. Never raises.
    """
    system = SYSTEMS.get(sys.platform)
    if system is None:
        return {}
    return {name: text for name, text in system.describe(system.read).items() if text}
