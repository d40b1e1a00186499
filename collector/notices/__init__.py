"""Privacy notices and records of processing, made from a schema and a configuration."""
