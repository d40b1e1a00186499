"""The sidecar as a whole: a real ``collector serve`` on one core, and load from another core."""
