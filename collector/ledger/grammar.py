"""The grammar of the texts that a ledger hashes. Verification and the auditor's script share it.

Only ``re`` is imported: ``collector ledger export --verifier`` puts this module into the script.
"""

import re

REJECTED = (
    *("malformed", "not_an_object", "too_large", "too_deep"),
    *("missing_required", "nothing_admitted", "consent_withheld", "not_selected"),
)
COUNT, HASH = "(?:0|[1-9][0-9]{0,18})", "[0-9a-f]{64}"
MINUTE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:00Z"

FACTS = {
    **dict.fromkeys("public digest before who notice schemas schemas_before".split(), HASH),
    **dict.fromkeys("rows values batches files records from to".split(), COUNT),
    "at": "(?:start|stop|hour|receipts|asked)",
    "change": "(?:first|widening|narrowing|neutral|unknown)",
    "schema": "[a-z][a-z0-9_-]{0,80}/[0-9.]{1,40}",
    "places": "(?:[a-z][a-z0-9-]{0,31}(?:[.][1-9][0-9]{0,5})?=(?:-|[0-9]{1,18})[ ]?){1,1000}",
    "sink": "[a-z][a-z0-9-]{0,31}",
    "field": "[a-z][a-z0-9_.]{0,600}",
    "command": "(?:serve|claims|[a-z]{1,20} [a-z]{1,20})",
    **dict.fromkeys(("what", "role", "outcome", "cause"), "[a-z_]{3,12}"),
    "recording": "[0-9a-f]{32}",
    "reason": "[^\n]*",
}
"""The text of each fact. Only ``reason`` may occur more than once."""
_REMOVED = "command field rows values batches files places"
_KINDS = {
    "key": "public",
    "checkpoint": "at",
    "damage": "",
    "schema": "schema digest before change reason",
    "configuration": "digest before change reason",
    "reload": "cause change schemas schemas_before digest before",
    "read": "command rows",
    "prune": "command rows values batches files places",
    "drop": "command sink rows batches",
    "gap": "sink from to batches records",
    **dict.fromkeys(("export", "erasure", "amendment"), _REMOVED),
    "recording": "recording what role who notice outcome",
    "access": "recording what role who outcome",
}
KINDS = {kind: tuple(facts.split()) for kind, facts in _KINDS.items()}
"""The facts of each kind, in their order."""


def _facts(kind: str) -> str:
    pairs = ((name, "*" if name == "reason" else "?") for name in KINDS[kind])
    return "".join(f"(?:fact {name} {FACTS[name]}\n){times}" for name, times in pairs)


_HEAD = f"sequence [1-9][0-9]{{0,18}}\nminute {MINUTE}\n"
FORMS = {
    "start": f"collector chain 1\nfirst [1-9][0-9]{{0,18}}\nreason (?:new|damaged)\nafter {HASH}\n",
    "receipt": f"collector receipt 1\n{_HEAD}schema {HASH}\nreceived {COUNT}\nadmitted {COUNT}\n"
    + "".join(f"(?:rejected {reason} [1-9][0-9]{{0,18}}\n)?" for reason in REJECTED)
    + f"commitment (?:-|{HASH})\nprevious {HASH}\n",
    "entry": f"collector entry 1\n{_HEAD}(?:"
    + "|".join(f"kind {kind}\n{_facts(kind)}" for kind in KINDS)
    + f")receipt {COUNT} {HASH}\nkey (?:-|{HASH})\nprevious {HASH}\n",
    "tips": f"receipt {COUNT} {HASH}\nentry {COUNT} {HASH}\n",
}
"""The form of each text: the start of a chain, a receipt, an entry, the end of an export."""


def fits(what: str, text: str) -> bool:
    """Return whether a text has the form of ``what`` and only printable characters."""
    is_printable = text.replace("\n", "").isprintable()
    return is_printable and re.fullmatch(FORMS[what], text, re.ASCII) is not None
