"""Names: the words of fields and paths, measured on what real systems call things."""
