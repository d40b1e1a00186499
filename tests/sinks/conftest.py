"""The server of the tests with PostgreSQL."""

from tests.sinks.postgres import clean, server  # noqa: F401 - fixtures
