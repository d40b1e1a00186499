"""Decoders: one for each form of input, each of which only fills the structs of a plan's shape."""
