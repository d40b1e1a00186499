"""Parquet files of records, and the process that reads them.

Whoever has a bucket's key can put a file there that harms its readers. So only a separate process
(``reader``) parses files. Its memory is limited, and its environment has no secret. The process
that asks (``process``) sends it the parts of the file that it needs, and receives numbers, lines of
records, and the bytes of a rewritten file; it never parses a file itself. Writing and reading share
``tables``, and ``mark`` is the metadata of our files.
"""
