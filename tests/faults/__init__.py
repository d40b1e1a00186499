"""Faults that the tests must find: each patch here puts one into a copy of the tree."""
