"""Verifies what `collector ledger export` wrote: python3 auditor.py EXPORT [CHECKPOINT...]

For a machine without Collector: it needs Python 3.11 and the package cryptography, nothing else.
Exit 0 if the ledger holds and has each checkpoint that was kept elsewhere; 1, and where, if not.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_signed(text: str, key: str, signature: str) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(signature), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


class _Audit:
    def __init__(self) -> None:
        self.tips = {"receipt": (0, "0" * 64), "entry": (0, "0" * 64)}
        self.hashes: dict[str, dict[int, str]] = {"receipt": {}, "entry": {}}
        self.starts: dict[int, dict[str, str]] = {}
        self.key, self.lost, self.signed = "", 0, 0

    def take(self, line: dict[str, str]) -> Iterator[str]:
        """The flaws of a line. Its first member is what is hashed, line by line."""
        what, text = next(iter(line.items()))
        part = dict(re.findall(r"^(fact \S+|rejected \S+|\S+) (.*)$", text, re.MULTILINE))
        number, name = int(part.get("sequence", 0)), f"{what} {part.get('sequence', '')}"
        if digest(text) != line["hash"]:
            yield f"{name}: it was changed"
        if what == "start":
            self.starts[int(part["first"])] = part | {"hash": line["hash"]}
            self.lost = int(part["first"]) if part["reason"] == "damaged" else self.lost
        elif what in self.tips:
            before, last = self.before(what, number, part)
            if (number, part["previous"]) != (before + 1, last):
                yield f"{name}: it does not follow on {what} {before}"
            flaws = self.receipt(part) if what == "receipt" else self.entry(part, text, line)
            yield from (f"{name}: {flaw}" for flaw in flaws)
            self.tips[what], self.hashes[what][number] = (number, line["hash"]), line["hash"]

    def before(self, what: str, number: int, part: dict[str, str]) -> tuple[int, str]:
        """What a receipt or an entry must follow on: where something was lost, numbers may be."""
        tip, last = self.tips[what]
        start = self.starts.get(number) if what == "receipt" else None
        if start and start["after"] == last and (start["reason"] == "damaged" or not tip):
            last = start["hash"]
        return (max(tip, number - 1) if start or part.get("kind") == "damage" else tip), last

    def receipt(self, part: dict[str, str]) -> Iterator[str]:
        counts = (int(n) for name, n in part.items() if re.match("admitted|rejected ", name))
        if int(part["received"]) != sum(counts):
            yield "it does not add up"

    def entry(self, part: dict[str, str], text: str, line: dict[str, str]) -> Iterator[str]:
        at, key = int(part["receipt"].split()[0]), part["key"]
        found = self.hashes["receipt"].get(at, "is lost" if at < self.lost else "0" * 64)
        if f"{at} {found}" != part["receipt"] and found != "is lost":
            yield "the receipt that it names is another"
        new = part["fact public"] if part["kind"] == "key" else self.key
        if key != "-" and not (key in (self.key, new) and is_signed(text, key, line["signature"])):
            yield "its signature is not good"
        if self.key not in ("", new, key):
            print(f"entry {part['sequence']}: a new key, which the one before has not signed")
        self.key = new
        self.signed += key != "-"


def main(export: str, *checkpoints: str) -> int:
    audit = _Audit()
    *lines, end = map(json.loads, Path(export).read_bytes().splitlines())
    flaws = [flaw for line in lines for flaw in audit.take(line)]
    if end["tips"] != {what: [*tip] for what, tip in audit.tips.items()}:
        flaws.append("it does not end with the receipt and the entry that it says are the last")
    kept = "".join(Path(file).read_text("utf-8") for file in checkpoints)
    texts = re.findall(r"(collector entry 1\n.*?\n)signature ", kept, re.DOTALL)
    gone = [text for text in texts if digest(text) not in audit.hashes["entry"].values()]
    flaws += map("it was cut or rewritten: this is not there any more\n{}".format, gone)
    print(f"{audit.signed} of {len(audit.hashes['entry'])} entries signed, {len(texts)} compared")
    print(*flaws, f"the ledger {'does not hold' if flaws else 'holds'}", sep="\n")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
