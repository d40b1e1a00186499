"""The room ``collector.dev``."""
