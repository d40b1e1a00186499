"""Parquet files of records, and the process that reads them.

Whoever has a bucket's key can put a file there that is made to harm its readers. So a file is only
ever parsed in a process of its own (``reader``), which has little memory and no secret. The process
that asks (``process``) gives it the parts of the file that it needs, and gets numbers, lines of
records, and the bytes of a file that is written anew; it never parses what a file says itself.
``tables`` is what writing and reading share, and ``mark`` the metadata of files that are ours.
"""
