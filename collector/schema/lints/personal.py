"""What looks like a person: a possessive, a title, a given name, an e-mail address, a number.

A guess, good enough to ask the author about it. Words that are also names of products or systems
(Jordan, Mark, Max, Victoria, Leo, …) are left out of the list of names.
"""

from __future__ import annotations

import re

__all__ = ["looks_personal"]

_WORDS = re.compile(r"[^\W\d_]+").findall
_MARKS = re.compile(r"[@'’,]|^[+(0-9]").search
_HINTS = frozenset("mr mrs ms miss dr prof herr frau mme mlle sra von van de di do da of d".split())
"""Without such a mark or word the signs are not looked for: a catalogue may have many thousands."""
_SIGNS = re.compile(
    r"""
    \S@\S+\.\S                                          # an e-mail address
    | ^\+[ ]?(?:[0-9][ ()./-]*){7,}$                    # a telephone number
    | ^\(?(?:[0-9][ ()/-]*){9,}$
    | [^\W\d_]['’]s\b                                   # Ana's phone
    | (?:phone|pad|book|\bpc|laptop|tablet|computer|handy|galaxy|pixel)[ ]
      (?:von|van|de|di|do|da|of|d['’])[ ]?[^\W\d_]      # the phone of Ana, in several languages
    | \b(?:mr|mrs|ms|miss|dr|prof|herr|frau|mme|mlle|sra)\b\.?[ ][^\W\d_]{2}
    """,
    re.VERBOSE | re.IGNORECASE,
).search
_INVERTED = re.compile(r"[A-Z][a-z]+, [A-Z][a-z]+").fullmatch
"""Surname, Given"""
_GIVEN_NAMES = frozenset(
    """
    ahmed aisha alejandro alexander alexandra alice ali amelie amina ana andrea andreas andrew
    angela anja anna anne antonio barbara beatriz bernd bjorn brian camille carlos carmen carol
    catherine charles charlotte christian christina christine christopher claudia daniel david
    deborah dennis diego dimitri dmitri donald dorothy edward elena elisabeth elizabeth emily emma
    eric fatima felix fernando francesca francois frank fatma gabriel george giovanni giulia hannah
    hans hassan heike helen henry hiroshi ibrahim igor ines ingrid irina isabel isabella ivan jacob
    james jan jane javier jean jennifer jessica joao johannes john jonas jose joseph juan julia
    jurgen karen karin katarzyna katharina kenneth kevin khalid klaus krzysztof lars laura lena lisa
    louise lucas lucia luis lukas magdalena manuel marco margaret maria marie mario marta martin
    mary matthew mehmet mei melissa michael michelle miguel mohamed mohammed monika mustafa nancy
    natalia nicolas nicole nina nikolai olga olivia omar oliver pablo pamela patricia patrick paul
    pedro peter petra philip philippe pierre priya rachel rahul ramon rebecca richard robert ronald
    sabine samantha samuel sandra sarah sebastian sergei sharon silvia simon sofia sophie stefan
    stephanie stephen steven susan susanne svetlana tatiana teresa theresa thomas timothy ursula
    vladimir wei william wolfgang yusuf yuki yuri zainab
    """.split()
)


def looks_personal(text: str) -> bool:
    """Whether a text looks like the name, address or number of a person."""
    words = frozenset(_WORDS(text.casefold()))
    if not words.isdisjoint(_GIVEN_NAMES):
        return True
    if words.isdisjoint(_HINTS) and not _MARKS(text):
        return False
    return bool(_SIGNS(text) or _INVERTED(text))
