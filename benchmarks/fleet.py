"""The machines that take part: a few hundred combinations of device and operating system.

Every value is spelled as the schema ``conferencing`` admits it unchanged, so that a contender
without aliases gives the same records. What a machine does not report is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Machine:
    """The members ``device`` and ``os`` of an event, to be copied and never changed."""

    device: dict[str, object]
    os: dict[str, object]


class _Models(NamedTuple):
    """Models of one manufacturer; each is ``name`` or ``identifier|name``."""

    form: str
    manufacturer: str
    models: tuple[str, ...]


class _System(NamedTuple):
    name: str
    version: str | None
    build: str | None


class _Group(NamedTuple):
    """Every model runs every system. ``share`` is the group's part of all events."""

    share: float
    os_type: str
    models: tuple[_Models, ...]
    systems: tuple[_System, ...]


_WINDOWS = _Group(
    0.46,
    "windows",
    (
        _Models("laptop", "Dell Inc.", ("Latitude 5440", "Latitude 7430", "XPS 13 9340")),
        _Models("desktop", "Dell Inc.", ("OptiPlex 7090", "OptiPlex 3080", "Precision 3660")),
        _Models("laptop", "LENOVO", ("ThinkPad T14 Gen 3", "ThinkPad X1 Carbon Gen 11")),
        _Models("desktop", "LENOVO", ("ThinkCentre M70q Gen 3", "ThinkCentre M90q")),
        _Models("laptop", "HP", ("HP EliteBook 840 14 inch G10 Notebook PC", "HP ProBook 450 G7")),
        _Models("laptop", "Microsoft Corporation", ("Surface Laptop 5", "Surface Pro 9")),
        _Models("laptop", "ASUSTeK COMPUTER INC.", ("Zenbook 14 OLED", "Vivobook 15")),
        _Models("laptop", "Acer", ("Aspire 5", "Swift Go 14")),
    ),
    (
        _System("Windows 10 Pro", "10.0.19045", "19045.5965"),
        _System("Windows 11 Home", "10.0.22631", "22631.5472"),
        _System("Windows 11 Pro", "10.0.22631", "22631.5335"),
        _System("Windows 11 Pro", "10.0.26100", "26100.4349"),
        _System("Windows 11 Enterprise", "10.0.26100", "26100.4202"),
    ),
)
_MACS = _Group(
    0.16,
    "darwin",
    (
        _Models(
            "laptop",
            "Apple",
            (
                "MacBookAir10,1|MacBook Air (M1, 2020)",
                "Mac14,2|MacBook Air (M2, 2022)",
                "Mac15,12|MacBook Air (13-inch, M3, 2024)",
                "MacBookPro18,3|MacBook Pro (14-inch, 2021)",
                "Mac14,9|MacBook Pro (14-inch, 2023)",
                "Mac16,1|MacBook Pro (14-inch, M4, 2024)",
            ),
        ),
        _Models(
            "desktop", "Apple", ("Mac14,3|Mac mini (M2, 2023)", "iMac21,1|iMac (24-inch, M1, 2021)")
        ),
    ),
    (
        _System("macOS", "13.7.6", "22H625"),
        _System("macOS", "14.7.6", "23H626"),
        _System("macOS", "15.5", "24F74"),
        _System("macOS", "15.6.1", "24G90"),
    ),
)
_IOS = (("17.6.1", "21G93"), ("18.4.1", "22E252"), ("18.5", "22F76"), ("18.6.2", "22G100"))
_IPHONES = _Group(
    0.13,
    "ios",
    (
        _Models(
            "phone",
            "Apple",
            (
                "iPhone12,1|iPhone 11",
                "iPhone13,2|iPhone 12",
                "iPhone14,5|iPhone 13",
                "iPhone14,7|iPhone 14",
                "iPhone15,2|iPhone 14 Pro",
                "iPhone15,4|iPhone 15",
                "iPhone16,1|iPhone 15 Pro",
                "iPhone17,3|iPhone 16",
                "iPhone17,1|iPhone 16 Pro",
            ),
        ),
    ),
    tuple(_System("iOS", version, build) for version, build in _IOS),
)
_IPADS = _Group(
    0.04,
    "ios",
    (
        _Models(
            "tablet",
            "Apple",
            (
                "iPad13,16|iPad Air (5th generation)",
                "iPad13,18|iPad (10th generation)",
                "iPad14,1|iPad mini (6th generation)",
                "iPad14,3|iPad Pro (11-inch) (4th generation)",
            ),
        ),
    ),
    tuple(_System("iPadOS", version, build) for version, build in _IOS),
)
_ANDROID = _Group(
    0.14,
    "android",
    (
        _Models(
            "phone",
            "samsung",
            (
                "SM-A546B|Galaxy A54 5G",
                "SM-A556B|Galaxy A55 5G",
                "SM-S911B|Galaxy S23",
                "SM-S918B|Galaxy S23 Ultra",
                "SM-S921B|Galaxy S24",
                "SM-S938B|Galaxy S25 Ultra",
            ),
        ),
        _Models("tablet", "samsung", ("SM-X710|Galaxy Tab S9",)),
        _Models("phone", "Google", ("Pixel 7", "Pixel 8", "Pixel 8 Pro", "Pixel 9")),
        _Models("phone", "Xiaomi", ("Redmi Note 13 Pro", "Xiaomi 14")),
        _Models("phone", "OnePlus", ("OnePlus 12",)),
    ),
    (
        _System("Android", "13", "TP1A.220624.014"),
        _System("Android", "14", "UP1A.231005.007"),
        _System("Android", "14", "AP2A.240905.003"),
        _System("Android", "15", "AP3A.240905.015.A2"),
    ),
)
_LINUX = _Group(
    0.03,
    "linux",
    (
        _Models("laptop", "LENOVO", ("ThinkPad T14 Gen 4", "ThinkPad X1 Carbon Gen 11")),
        _Models("laptop", "Framework", ("Laptop 13 (AMD Ryzen 7040Series)",)),
        _Models("laptop", "Dell Inc.", ("XPS 13 9320",)),
        _Models("laptop", "System76", ("Lemur Pro",)),
    ),
    (
        _System("Ubuntu", "22.04", None),
        _System("Ubuntu", "24.04", None),
        _System("Debian GNU/Linux", "12", None),
        _System("Fedora Linux", "41", None),
        _System("Arch Linux", None, None),
    ),
)
_ROOMS = _Group(
    0.04,
    "android",
    (
        _Models("room_system", "Poly", ("Poly Studio X50", "Poly Studio X70")),
        _Models("room_system", "Logitech", ("Logitech Rally Bar", "Logitech Rally Bar Mini")),
        _Models("room_system", "Neat", ("Neat Bar", "Neat Board 50")),
        _Models("room_system", "Yealink", ("Yealink MeetingBar A20",)),
    ),
    (_System("Android", "10", None), _System("Android", "12", None)),
)
_GROUPS = (_WINDOWS, _MACS, _IPHONES, _IPADS, _ANDROID, _LINUX, _ROOMS)


def _present(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _machines(group: _Group) -> Iterator[Machine]:
    for made, system in product(group.models, group.systems):
        for text in made.models:
            identifier, _, name = text.rpartition("|")
            model = _present(identifier=identifier or None, name=name)
            yield Machine(
                _present(type=made.form, manufacturer=made.manufacturer, model=model),
                _present(
                    type=group.os_type,
                    name=system.name,
                    version=system.version,
                    build_id=system.build,
                ),
            )


def _weighted(groups: Iterable[_Group]) -> Iterator[tuple[Machine, float]]:
    for group in groups:
        machines = list(_machines(group))
        for each in machines:
            yield each, group.share / len(machines)


_WEIGHTED = list(_weighted(_GROUPS))
_CUMULATED = list(accumulate(weight for _, weight in _WEIGHTED))

MACHINES: list[Machine] = [each for each, _ in _WEIGHTED]
"""Every machine of the fleet, each once."""


def machine(rng: random.Random) -> Machine:
    """Return one machine, drawn by the shares of the groups."""
    return rng.choices(MACHINES, cum_weights=_CUMULATED)[0]
