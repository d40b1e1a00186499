"""Public sentences, the checks that carry them, and their verification."""
