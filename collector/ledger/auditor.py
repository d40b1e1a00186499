"""Verifies what `collector ledger export` wrote: python3 auditor.py EXPORT [CHECKPOINTS...]

It needs Python 3.11 and the package cryptography, nothing of Collector. Exit 0 if the ledger holds,
and has each checkpoint that was kept elsewhere; 1, and where, if not."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class _Audit:
    def __init__(self) -> None:
        self.tips = {"receipt": (0, "0" * 64), "entry": (0, "0" * 64)}
        self.known = {f"receipt 0 {'0' * 64}"}
        self.starts, self.named = dict[int, dict[str, str]](), dict[str, int]()
        self.key, self.lost, self.entries, self.signed, self.ends = "", 0, 0, 0, False

    def take(self, line: dict[str, str]) -> Iterator[str]:
        """The flaws of a line. Its first member is what is hashed, line by line."""
        what, text = next(iter(line.items()), ("", ""))
        self.ends = text == "".join(f"{which} {n} {tip}\n" for which, (n, tip) in self.tips.items())
        part: dict[str, str] = dict(re.findall(r"(?m)^(fact \S+|rejected \S+|\S+) (.*)$", text))
        number = int(part.get("sequence", part.get("first", 0)))
        if hashlib.sha256(text.encode()).hexdigest() != line["hash"]:
            yield f"{what} {number or line['hash'][:12]}: it was changed"
        if what == "start":
            self.starts[number] = part | {"hash": line["hash"]}
            self.lost = number if part["reason"] == "damaged" else self.lost
        elif what == "document":
            self.named.pop(line["hash"], None)
        elif what != "tips":
            tip, last = self.tips[what]
            start = self.starts.get(number, {}) if what == "receipt" else dict[str, str]()
            if start.get("after") == last and (start["reason"] == "damaged" or number == 1):
                last = start["hash"]
            if "damage" in start.get("reason", part.get("kind", "")):
                tip, self.named = max(tip, number - 1), {}
                print(f"{what} {number}: the file was damaged, what was before it may be lost")
            if (number, part["previous"]) != (tip + 1, last):
                yield f"{what} {number}: it does not follow on {what} {tip}"
            counts = re.findall(r"(?m)^(?:admitted|rejected \S+) (.*)$", text)
            if what == "receipt" and int(part["received"]) != sum(map(int, counts)):
                yield f"{what} {number}: it does not add up"
            if what == "entry":
                yield from (f"{what} {number}: {flaw}" for flaw in self.entry(part, text, line))
            self.tips[what] = (number, line["hash"])
            self.known.add(f"{what} {number} {line['hash']}")

    def entry(self, part: dict[str, str], text: str, line: dict[str, str]) -> Iterator[str]:
        at, key = int(part["receipt"].split()[0]), part["key"]
        if f"receipt {part['receipt']}" not in self.known and at >= self.lost:
            yield "the receipt that it names is another"
        new = part["fact public"] if part["kind"] == "key" else self.key
        try:
            if key != "-":
                self.signed += 1
                public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
                public.verify(bytes.fromhex(line["signature"]), text.encode())
        except (InvalidSignature, ValueError):
            yield "its signature is not good"
        if key not in ("-", self.key, new):
            yield "its key is not the ledger's at that time"
        if self.key not in ("", new, key):
            print(f"entry {part['sequence']}: a new key, which the one before has not signed")
        self.key, self.entries = new, self.entries + 1
        if "fact digest" in part:
            self.named[part["fact digest"]] = int(part["sequence"])


def main(export: str, *checkpoints: str) -> int:
    audit, flaws = _Audit(), list[str]()
    form = r"(?s)(collector entry 1\nsequence (\d+)\n.*?\nreceipt (\d+ \S+)\n.*?\n)signature \S+\n"
    for number, line in enumerate(Path(export).read_bytes().splitlines(), 1):
        try:
            flaws += audit.take(json.loads(line))
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            flaws.append(f"line {number}: it cannot be read")
    flaws += [] if audit.ends else ["it does not end with what it says is the last"]
    flaws += (f"entry {n}: the document that it names is missing" for n in audit.named.values())
    for file in checkpoints:
        text = Path(file).read_text("utf-8", "replace").strip() + "\n"
        flaws += [f"{file}: it is no file of checkpoints"] if re.sub(form, "", text) else []
        for kept, n, receipt in re.findall(form, text):
            entry = f"entry {n} {hashlib.sha256(kept.encode()).hexdigest()}"
            if not {entry, f"receipt {receipt}"} <= audit.known:
                flaws.append(f"{file}: entry {n}, or what was before it, is not what it was")
    print(f"{audit.signed} of {audit.entries} entries signed")
    print(*flaws[:1000], f"the ledger {'does not hold' if flaws else 'holds'}", sep="\n")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
