"""SQLite files: the write-ahead log, compaction, checks of paths, and durable directories."""
