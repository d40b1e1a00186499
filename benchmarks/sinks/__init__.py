"""Sinks, each beside a bare writer of the library that it uses."""
