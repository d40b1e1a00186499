"""``python -m tests.names``: recall and false refusals by kind, source, half and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.names.corpora import Entry, as_natural, as_text, corpus, share

_GROUPS: dict[str, Callable[[Entry], str]] = {
    "all": lambda _: "",
    "half": lambda entry: entry.half,
    "kind": lambda entry: entry.kind,
    "source": lambda entry: entry.project,
}


def _table(title: str, entries: Iterable[Entry], layers: dict[str, set[str]]) -> None:
    print(f"{title:40}{'names':>7}" + "".join(f"{layer:>22}" for layer in layers))
    for group, key in _GROUPS.items():
        found: dict[str, list[str]] = {}
        for entry in entries:
            found.setdefault(key(entry), []).append(entry.name)
        for label, names in sorted(found.items()):
            shares = (
                share(len(refused.intersection(names)), len(names)) for refused in layers.values()
            )
            print(f"  {group + ' ' + label:38}{len(names):7}" + "".join(f"{s:>22}" for s in shares))
    print()


def main() -> None:
    """Print both tables, and the names that are judged wrongly."""
    telling, innocent = corpus("telling"), corpus("innocent")
    words = {entry.name for entry in telling if as_text(entry, is_closed=False)}
    closed = {entry.name for entry in telling if as_text(entry)}
    _table(
        "telling, refused as short tokens",
        telling,
        {"words": words, "words + closed world": closed},
    )
    natural = {entry.name: found for entry in innocent if (found := as_natural(entry))}
    layers: dict[str, set[str]] = {"words": set(), "closed world": set()}
    for name, objection in natural.items():
        layers["closed world" if objection.code == "E312" else "words"].add(name)
    _table("innocent, refused as what they are", innocent, {**layers, "all": set(natural)})
    print("telling names that load:", ", ".join(e.name for e in telling if e.name not in closed))
    refused = (f"{name} ({found.word}, {found.code})" for name, found in natural.items())
    print("innocent names that do not:", ", ".join(refused))


if __name__ == "__main__":
    main()
