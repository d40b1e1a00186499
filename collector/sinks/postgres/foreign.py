"""What a namespace has that is not of our making, besides rows of records, which are looked at one
by one."""

from __future__ import annotations

from collector.sinks.postgres.server import Cursor
from collector.sinks.postgres.tables import Namespace

__all__ = ["foreign_parts"]

_COLUMNS = (
    "_format.version _delivered.number _delivered.id _retention.relation _retention.field"
    " _retention.seconds _unswept.partition _unswept.pid _unswept.started"
).split()
_OBJECTS = """
SELECT
  (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
   WHERE c.relnamespace = n.oid AND c.relname IN ('_format', '_delivered', '_retention', '_unswept')
   AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
   AND c.relname || '.' || a.attname <> ALL (%(columns)s)),
  (SELECT count(*) FROM pg_description d WHERE (d.classoid = 'pg_namespace'::regclass
   AND d.objoid = n.oid) OR (d.classoid = 'pg_class'::regclass AND d.objoid IN
   (SELECT oid FROM pg_class WHERE relnamespace = n.oid)) OR (d.classoid = 'pg_constraint'::regclass
   AND d.objoid IN (SELECT oid FROM pg_constraint WHERE connamespace = n.oid))),
  (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid),
  (SELECT count(*) FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
   WHERE t.typnamespace = n.oid AND (t.typtype IN ('d', 'e', 'r', 'm') OR c.relkind = 'c')),
  (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
   WHERE c.relnamespace = n.oid AND NOT t.tgisinternal)
FROM pg_namespace n WHERE n.nspname = %(namespace)s
"""
"""Columns that were added to our own tables, comments, functions, types and triggers."""
_TEXTS = {
    "_retention": """
SELECT count(*) FROM {} WHERE field <> ALL (%(fields)s) AND (relation, field) NOT IN
  (SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(namespace)s)
""",
    "_unswept": """
SELECT count(*) FROM {} WHERE partition !~ '^[A-Za-z0-9_.-]{{1,54}}_[0-9]{{8}}$' AND partition
  NOT IN (SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = %(namespace)s)
""",
    "_delivered": "SELECT count(*) FROM {} WHERE length(id) NOT IN (8, 16, 32)",
}
"""Texts and bytes of our own tables that are no names of what there is, and no ids."""


def foreign_parts(cursor: Cursor, space: Namespace) -> int:
    """Count relations, columns, comments and other objects that are not of our making, and texts in
    our own tables that are no names."""
    number = len(space.relations(cursor).keys() - space.own_relations(cursor))
    names = {"columns": _COLUMNS, "namespace": space.name, "fields": sorted(space.fields)}
    number += sum(cursor.execute(_OBJECTS, names).fetchone() or ())
    for table, text in _TEXTS.items():
        row = cursor.execute(space.query(text, table), names).fetchone()
        number += row[0] if row else 0
    return number
