"""The fleet of machines: a few hundred combinations of device and operating system.

Every value is spelled so that the schema ``conferencing`` admits it unchanged: a contender without
aliases then gives the same records. A machine may lack some values.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, product
from typing import NamedTuple

_FLEET = """\
0.46 windows
  laptop: Dell Inc.: Latitude 5440; Latitude 7430; XPS 13 9340
  desktop: Dell Inc.: OptiPlex 7090; OptiPlex 3080; Precision 3660
  laptop: LENOVO: ThinkPad T14 Gen 3; ThinkPad X1 Carbon Gen 11
  desktop: LENOVO: ThinkCentre M70q Gen 3; ThinkCentre M90q
  laptop: HP: HP EliteBook 840 14 inch G10 Notebook PC; HP ProBook 450 G7
  laptop: Microsoft Corporation: Surface Laptop 5; Surface Pro 9
  laptop: ASUSTeK COMPUTER INC.: Zenbook 14 OLED; Vivobook 15
  laptop: Acer: Aspire 5; Swift Go 14
  Windows 10 Pro | 10.0.19045 | 19045.5965
  Windows 11 Home | 10.0.22631 | 22631.5472
  Windows 11 Pro | 10.0.22631 | 22631.5335
  Windows 11 Pro | 10.0.26100 | 26100.4349
  Windows 11 Enterprise | 10.0.26100 | 26100.4202

0.16 darwin
  laptop: Apple: MacBookAir10,1|MacBook Air (M1, 2020); Mac14,2|MacBook Air (M2, 2022);
    Mac15,12|MacBook Air (13-inch, M3, 2024); MacBookPro18,3|MacBook Pro (14-inch, 2021);
    Mac14,9|MacBook Pro (14-inch, 2023); Mac16,1|MacBook Pro (14-inch, M4, 2024)
  desktop: Apple: Mac14,3|Mac mini (M2, 2023); iMac21,1|iMac (24-inch, M1, 2021)
  macOS | 13.7.6 | 22H625
  macOS | 14.7.6 | 23H626
  macOS | 15.5 | 24F74
  macOS | 15.6.1 | 24G90

0.13 ios
  phone: Apple: iPhone12,1|iPhone 11; iPhone13,2|iPhone 12; iPhone14,5|iPhone 13;
    iPhone14,7|iPhone 14; iPhone15,2|iPhone 14 Pro; iPhone15,4|iPhone 15;
    iPhone16,1|iPhone 15 Pro; iPhone17,3|iPhone 16; iPhone17,1|iPhone 16 Pro
  iOS | 17.6.1 | 21G93
  iOS | 18.4.1 | 22E252
  iOS | 18.5 | 22F76
  iOS | 18.6.2 | 22G100

0.04 ios
  tablet: Apple: iPad13,16|iPad Air (5th generation); iPad13,18|iPad (10th generation);
    iPad14,1|iPad mini (6th generation); iPad14,3|iPad Pro (11-inch) (4th generation)
  iPadOS | 17.6.1 | 21G93
  iPadOS | 18.4.1 | 22E252
  iPadOS | 18.5 | 22F76
  iPadOS | 18.6.2 | 22G100

0.14 android
  phone: samsung: SM-A546B|Galaxy A54 5G; SM-A556B|Galaxy A55 5G; SM-S911B|Galaxy S23;
    SM-S918B|Galaxy S23 Ultra; SM-S921B|Galaxy S24; SM-S938B|Galaxy S25 Ultra
  tablet: samsung: SM-X710|Galaxy Tab S9
  phone: Google: Pixel 7; Pixel 8; Pixel 8 Pro; Pixel 9
  phone: Xiaomi: Redmi Note 13 Pro; Xiaomi 14
  phone: OnePlus: OnePlus 12
  Android | 13 | TP1A.220624.014
  Android | 14 | UP1A.231005.007
  Android | 14 | AP2A.240905.003
  Android | 15 | AP3A.240905.015.A2

0.03 linux
  laptop: LENOVO: ThinkPad T14 Gen 4; ThinkPad X1 Carbon Gen 11
  laptop: Framework: Laptop 13 (AMD Ryzen 7040Series)
  laptop: Dell Inc.: XPS 13 9320
  laptop: System76: Lemur Pro
  Ubuntu | 22.04
  Ubuntu | 24.04
  Debian GNU/Linux | 12
  Fedora Linux | 41
  Arch Linux

0.04 android
  room_system: Poly: Poly Studio X50; Poly Studio X70
  room_system: Logitech: Logitech Rally Bar; Logitech Rally Bar Mini
  room_system: Neat: Neat Bar; Neat Board 50
  room_system: Yealink: Yealink MeetingBar A20
  Android | 10
  Android | 12
"""
"""Groups, each with its share of all events and the type of its system. A line with colons has
models of one form and manufacturer, each ``name`` or ``identifier|name``; other lines have the
name, version and build of a system. Every model of a group is combined with every system of it."""


class Machine(NamedTuple):
    """The members ``device`` and ``os`` of an event. Copy them, never change them."""

    device: dict[str, object]
    os: dict[str, object]


def _present(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value}


def _group(share: str, kind: str, lines: list[str]) -> Iterator[tuple[Machine, float]]:
    """Yield the machines of a group with their shares of all events."""
    models = [line.split(": ") for line in lines if ": " in line]
    systems = [[*line.split(" | "), "", ""] for line in lines if ": " not in line]
    machines = []
    for (form, maker, texts), (name, version, build, *_) in product(models, systems):
        system = _present(type=kind, name=name, version=version, build_id=build)
        for text in texts.split("; "):
            identifier, _, model = text.rpartition("|")
            model_ = _present(identifier=identifier, name=model)
            machines.append(Machine(_present(type=form, manufacturer=maker, model=model_), system))
    for each in machines:
        yield each, float(share) / len(machines)


def _weighted() -> Iterator[tuple[Machine, float]]:
    for text in _FLEET.replace(";\n    ", "; ").split("\n\n"):
        head, *lines = map(str.strip, text.strip().split("\n"))
        share, kind = head.split()
        yield from _group(share, kind, lines)


_WEIGHTED = list(_weighted())
_CUMULATED = list(accumulate(weight for _, weight in _WEIGHTED))

MACHINES: list[Machine] = [each for each, _ in _WEIGHTED]
"""Every machine of the fleet, once."""


def machine(rng: random.Random) -> Machine:
    """Return one machine, drawn by the shares of the groups."""
    return rng.choices(MACHINES, cum_weights=_CUMULATED)[0]
