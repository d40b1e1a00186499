"""How time grows: CPU time against one property of the events, of the schema, or of the call.

What is varied (``axes``), the events and schemas for it (``cases``), who is timed on them
(``jobs``), the timing (``measure``), and the straight line that it should be (``curve``).
"""
