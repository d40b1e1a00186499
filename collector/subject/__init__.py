"""The rights of a person: export, erase and object."""
