"""The whole sidecar: real processes, real clients, real faults."""
