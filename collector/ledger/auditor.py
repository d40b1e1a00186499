"""Verify the output of `collector ledger export`: python3 auditor.py EXPORT [CHECKPOINTS...]

It needs Python 3.11 and the package cryptography, nothing of Collector. It exits with 0 if the
ledger holds and contains each checkpoint that was stored elsewhere, else with 1 and the flaws."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from collector.ledger.grammar import fits


class _Audit:
    def __init__(self) -> None:
        self.tips = {"receipt": (0, "0" * 64), "entry": (0, "0" * 64)}
        self.known = {f"receipt 0 {'0' * 64}"}
        self.starts, self.named = dict[int, dict[str, str]](), dict[str, int]()
        self.key, self.damaged, self.entries, self.signed, self.ends = "", 0, 0, 0, False

    def take(self, line: dict[str, str]) -> Iterator[str]:
        """Yield the flaws of a line, whose first member is the hashed text."""
        what, text = next(iter(line.items()), ("", ""))
        self.ends = text == "".join(f"{which} {n} {tip}\n" for which, (n, tip) in self.tips.items())
        part: dict[str, str] = dict(re.findall(r"(?m)^(fact \S+|rejected \S+|\S+) (.*)$", text))
        number = int(part.get("sequence", part.get("first", 0)))
        if hashlib.sha256(text.encode()).hexdigest() != line["hash"]:
            yield f"{what} {number or line['hash'][:12]}: hash does not match the content"
        if set(line) != {what, "hash", *(["signature"] if what == "entry" else [])}:
            yield f"{what} {number}: has other members than its kind of line"
        yield from (f"{what} {number}: {flaw}" for flaw in self.contents(what, part, text))
        if what == "start":
            self.starts[number] = part | {"hash": line["hash"]}
            self.damaged = number if part["reason"] == "damaged" else self.damaged
        elif what == "document":
            self.named.pop(line["hash"], None)
        elif what != "tips":
            tip, last = self.tips[what]
            start = self.starts.pop(number, {}) if what == "receipt" else dict[str, str]()
            if start.get("after") == last and (start["reason"] == "damaged" or number == 1):
                last = start["hash"]
            if "damage" in start.get("reason", part.get("kind", "")):
                tip, self.named = max(tip, number - 1), {}
                print(f"{what} {number}: the file was damaged, what was before it may be lost")
            if (number, part["previous"]) != (tip + 1, last):
                yield f"{what} {number}: does not follow {what} {tip}"
            if what == "entry":
                yield from (f"{what} {number}: {flaw}" for flaw in self.entry(part, text, line))
            self.tips[what] = (number, line["hash"])
            self.known.add(f"{what} {number} {line['hash']}")

    def contents(self, what: str, part: dict[str, str], text: str) -> Iterator[str]:
        if what != "document" and not fits(what, text):
            yield "does not have the form of one"
        if what == "receipt":
            counts = re.findall(r"(?m)^(?:admitted|rejected \S+) (.*)$", text)
            if int(part["received"]) != sum(map(int, counts)):
                yield "received is not admitted + rejected"
            committed = {part["commitment"] != "-", part["admitted"] != "0"}
            if part["received"] != "0" and len(committed) == 2:
                yield "commitment and admitted do not fit together"

    def entry(self, part: dict[str, str], text: str, line: dict[str, str]) -> Iterator[str]:
        at, key = int(part["receipt"].split()[0]), part["key"]
        if f"receipt {part['receipt']}" not in self.known and at >= self.damaged:
            yield "does not match the receipt that it names"
        new = part["fact public"] if part["kind"] == "key" else self.key
        try:
            if key != "-":
                self.signed += 1
                public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
                public.verify(bytes.fromhex(line["signature"]), text.encode())
        except (InvalidSignature, ValueError):
            yield "signature is not valid"
        if key == "-" and line["signature"]:
            yield "signature without a key"
        if key not in ("-", self.key, new):
            yield "key is not the ledger's at that time"
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
            flaws.append(f"line {number}: cannot be read")
    flaws += [] if audit.ends else ["the last line does not match the last receipt and entry"]
    starts = (n for n in audit.starts if n <= audit.tips["receipt"][0])
    flaws += (f"receipt {n}: missing, but a chain begins with it" for n in starts)
    flaws += (f"entry {n}: document is missing" for n in audit.named.values())
    for file in checkpoints:
        text = Path(file).read_text("utf-8", "replace").strip() + "\n"
        flaws += [f"{file}: not a file of checkpoints"] if re.sub(form, "", text) else []
        for stored, n, receipt in re.findall(form, text):
            entry = f"entry {n} {hashlib.sha256(stored.encode()).hexdigest()}"
            if not {entry, f"receipt {receipt}"} <= audit.known:
                flaws.append(f"{file}: entry {n}, or a receipt or an entry before it, was changed")
    print(f"{audit.signed} of {audit.entries} entries signed")
    print(*flaws[:1000], f"the ledger {'does not hold' if flaws else 'holds'}", sep="\n")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
