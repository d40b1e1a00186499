"""Figures of the package's structure: its import graph, its names, and the walk of one request.

``python -m tests.house`` prints all of them, with ``--names`` what each counts;
``python -m tests.house --write`` writes the rooms and the walk into docs/architecture.md.
"""
