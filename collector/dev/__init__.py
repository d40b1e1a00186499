"""A sidecar to try out, and one page that shows what goes in and what comes out.

``collector dev`` starts a separate sidecar (``collector serve``) with temporary data, sends it
synthetic events that fit its schema (``dev.feed``), and serves a page on loopback. The page shows
the sidecar's counts, the faults of the schema's file while it is edited, and a playground. Pasted
text goes to a process that the kernel confines (``dev.playground``), is filtered in memory, and is
shown beside its record. It is never stored or logged, and the sidecar never sees it.
"""
