"""``python -m tests.names``: how many names of each list are an error, in each form."""

from __future__ import annotations

import sys

from tests.names.corpora import FORMS, corpus, faults, share


def main(names: list[str]) -> None:
    """Print the shares of each list, and with the name of a form the names it gets wrong."""
    for each in ("telling", "held_telling", "innocent", "held_innocent"):
        entries = corpus(each)
        refused = {form: {e.name for e in entries if faults(e.name, form)} for form in FORMS}
        print(f"{each}: {len(entries)} names")
        for form, found in refused.items():
            print(f"  an error as {form:16}{len(found):6}{share(len(found), len(entries)):>9}")
        no_form = set.intersection(*(refused[form] for form in FORMS if form != "text"))
        print(
            f"  an error in every other form{len(no_form):6}{share(len(no_form), len(entries)):>9}"
        )
        if each.endswith("telling") and (missed := [f for f in names if f in FORMS]):
            for form in missed:
                print(
                    f"  load as {form}:", *(e.name for e in entries if e.name not in refused[form])
                )


if __name__ == "__main__":
    main(sys.argv[1:])
