"""Prune expired data from the spool, the store and files of records, and report what is overdue."""
