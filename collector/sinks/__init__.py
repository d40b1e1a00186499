"""Where records go. Sinks see records only, and never one another."""
