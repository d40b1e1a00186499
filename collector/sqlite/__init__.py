"""SQLite files: connections, what a file must look like, the write-ahead log, and compaction."""
