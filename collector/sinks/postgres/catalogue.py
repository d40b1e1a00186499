"""Compare the server's catalogue of a namespace with what our statements make.

A query gives one line of text for each table, column and constraint, with every part that may hold
somebody's text. We know the lines that our statements produce. Everything else that belongs to the
namespace or its tables, by the catalogue's dependencies, is not ours: functions, types, rules,
policies. Rights to read and statistics are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from collector.sinks.postgres.columns import GENERAL_TYPES, MOST_TEXT_BYTES, RESERVED_COLUMNS
from collector.sinks.postgres.server import Cursor
from collector.sinks.postgres.tables import Namespace

_LINES = """
WITH own AS (
  SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %(namespace)s
), parts (classid, objid) AS (
  SELECT d.classid, d.objid FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
  WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = %(namespace)s
  UNION SELECT d.classid, d.objid FROM pg_depend d JOIN own c ON c.oid = d.refobjid
  WHERE d.refclassid = 'pg_class'::regclass AND d.deptype <> 'n'
), described (classoid, objoid, text) AS (
  SELECT classoid, objoid, description FROM pg_description
  UNION ALL SELECT classoid, objoid, label FROM pg_seclabel
)
SELECT concat_ws(' ', c.relname, c.relkind, c.relpersistence, c.relrowsecurity,
    c.relforcerowsecurity, array_to_string(c.reloptions, ','), pg_get_partkeydef(c.oid),
    pg_get_expr(c.relpartbound, c.oid), CASE WHEN c.relkind IN ('i', 'I') THEN
    replace(pg_get_indexdef(c.oid), quote_ident(c.nspname) || '.', '') END)
  FROM own c WHERE c.relkind NOT IN ('t', 'c')
UNION ALL SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    a.attnotnull, nullif(a.attidentity, ''), nullif(a.attgenerated, ''), a.attmissingval::text,
    a.attfdwoptions, pg_get_expr(d.adbin, d.adrelid))
  FROM own c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT concat_ws(' ', c.relname, o.conname, pg_get_constraintdef(o.oid))
  FROM own c JOIN pg_constraint o ON o.conrelid = c.oid
  WHERE o.contype <> 'n' OR o.conname NOT IN (SELECT r.relname || '_' || a.attname || '_not_null'
    FROM own r JOIN pg_attribute a ON a.attrelid = r.oid)
UNION ALL SELECT p.classid::regclass::text FROM parts p
  LEFT JOIN pg_type t ON p.classid = 'pg_type'::regclass AND t.oid = p.objid
  LEFT JOIN pg_type e ON e.oid = t.typelem
  LEFT JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)
  WHERE p.classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass,
    'pg_attrdef'::regclass) AND c.relkind IS DISTINCT FROM 'r' AND c.relkind IS DISTINCT FROM 'p'
UNION ALL SELECT 'a description' FROM described d
  WHERE (d.classoid, d.objoid) IN (SELECT * FROM parts) OR (d.classoid = 'pg_namespace'::regclass
    AND d.objoid = (SELECT oid FROM pg_namespace WHERE nspname = %(namespace)s)
    AND (%(namespace)s, d.text) <> ('public', 'standard public schema'))
"""
"""Constraints of type ``n`` repeat ``NOT NULL`` under a name that the server makes (version 18)."""
_OWN = """
_format r p f f
_format version integer t
_delivered r p f f
_delivered number bigint t a
_delivered id bytea t
_delivered _delivered_pkey PRIMARY KEY (number)
_delivered _delivered_id_key UNIQUE (id)
_delivered_number_seq S p f f
_delivered_pkey i p f f CREATE UNIQUE INDEX _delivered_pkey ON _delivered USING btree (number)
_delivered_id_key i p f f CREATE UNIQUE INDEX _delivered_id_key ON _delivered USING btree (id)
_retention r p f f
_retention relation text t
_retention field text t
_retention seconds bigint t
_retention _retention_pkey PRIMARY KEY (relation, field)
_retention_pkey i p f f CREATE UNIQUE INDEX _retention_pkey ON _retention USING btree\
 (relation, field)
_unswept r p f f
_unswept partition text t
_unswept pid integer f
_unswept started timestamp with time zone f
"""
_NAMES = {"timestamptz": "timestamp with time zone"}
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
"""Queries that count the texts in our own tables that name nothing existing, and the bytes that are
not ids."""


def foreign_parts(cursor: Cursor, space: Namespace) -> int:
    """Count the lines of the catalogue that no statement of ours produces, and the foreign values
    in our own tables."""
    names = {"namespace": space.name, "fields": sorted(space.fields)}
    expected = {*_OWN.strip().splitlines(), *_expected(cursor, space)}
    found = cursor.execute(_LINES, names).fetchall()
    number = sum(line not in expected for (line,) in found)
    for table, text in _TEXTS.items():
        row = cursor.execute(space.query(text, table), names).fetchone()
        number += row[0] if row else 0
    return number


def _expected(cursor: Cursor, space: Namespace) -> Iterator[str]:
    """Yield the expected lines of the tables of records, from their columns, and of partitions."""
    for table, columns in space.tables(cursor).items():
        yield f"{table} p p f f RANGE (received)"
        days = space.partitions(cursor, table)
        for name, day in days.items():
            ends = (f"('{each} 00:00:00+00')" for each in (day, day + timedelta(days=1)))
            yield f"{name} r p f f FOR VALUES FROM {' TO '.join(ends)}"
        fields = {name: kind for name, kind in columns.items() if name not in RESERVED_COLUMNS}
        for relation in (table, *days):
            yield f"{relation} received timestamp with time zone t"
            yield f"{relation} count bigint t 1"
            for name, kind in fields.items():
                if any(kind in kinds for kinds in GENERAL_TYPES.values()):
                    yield f"{relation} {name} {_NAMES.get(kind, kind)} f"
                for column in (name, f'"{name}"'):  # quoted if it is a keyword of SQL or has a dot
                    check = f"CHECK ((octet_length({column}) <= {MOST_TEXT_BYTES}))"
                    yield from (f"{relation} {name} {check}{end}" for end in ("", " NOT VALID"))
