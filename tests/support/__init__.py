"""Helpers for the tests of several rooms: waiting, ports, servers, clients, processes, and data."""
