"""Windows: two keys of the registry, and the role of the machine that its firmware prefers.

Neither WMI nor ``platform.win32_ver`` is asked: both may take seconds.
"""

from __future__ import annotations

import re
import sys

from collector.sdk.host.firmware import device, is_virtual
from collector.sdk.host.source import Source

__all__ = ["describe", "read"]

_SYSTEM = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\"
_BIOS = "HARDWARE\\DESCRIPTION\\System\\BIOS\\"
_ROLE = "PowerDeterminePlatformRoleEx"
_ROLES = {"1": "desktop", "2": "laptop", "3": "desktop", "8": "tablet"}
"""POWER_PLATFORM_ROLE of Microsoft's powrprof.h: desktop, mobile, workstation, slate."""

_NAME = re.compile(r"Windows (Server )?[0-9][0-9.]{0,4}( R2)?")
_ELEVEN = 22000
"""The first build of Windows 11, whose registry goes on saying 10."""


def describe(source: Source) -> dict[str, str]:
    """The fields of this machine; those it does not say are empty or missing."""
    build = source(_SYSTEM + "CurrentBuildNumber")
    update = source(_SYSTEM + "UBR")
    return {
        "os.type": "windows",
        "os.name": _name(source(_SYSTEM + "ProductName"), build),
        "os.version": f"{_kernel(source)}.{build}",
        "os.build_id": f"{build}.{update}" if update else build,
        **_device(source),
    }


def _name(product: str, build: str) -> str:
    """The product without its edition, which says more of a licence than of a machine."""
    found = _NAME.match(product)
    name = found[0] if found else "Windows"
    is_eleven = name == "Windows 10" and re.fullmatch("[0-9]{5}", build) and int(build) >= _ELEVEN
    return "Windows 11" if is_eleven else name


def _kernel(source: Source) -> str:
    """``10.0``. Before Windows 10 there was but one text."""
    major = source(_SYSTEM + "CurrentMajorVersionNumber")
    minor = source(_SYSTEM + "CurrentMinorVersionNumber")
    return f"{major}.{minor}" if major and minor else source(_SYSTEM + "CurrentVersion")


def _device(source: Source) -> dict[str, str]:
    maker, product = source(_BIOS + "SystemManufacturer"), source(_BIOS + "SystemProductName")
    if is_virtual(maker, product):
        return {}
    role = _ROLES.get(source(_ROLE), "")
    return {"device.type": role, **device(maker, product, source(_BIOS + "SystemFamily"))}


if sys.platform == "win32":

    def read(name: str) -> str:
        """A value of the registry's local machine, or the machine's role."""
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

    def read(name: str) -> str:
        """Nothing: this is no Windows."""
        del name
        return ""
