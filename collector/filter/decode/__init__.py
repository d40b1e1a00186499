"""Decoders, one for each form of input. They only fill the structs of a plan's shape."""
