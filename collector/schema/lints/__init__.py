"""The lints, by what they look at. ``collector.schema.lint`` has the table of them.

Each is a small generator over a well-formed schema and a day, and yields ``(place, message)``. A
message says what to do, and quotes nothing but numbers and names of the document.
"""

from __future__ import annotations

__all__: list[str] = []
