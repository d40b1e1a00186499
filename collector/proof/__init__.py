"""What shows that the promises hold: computed from schema, settings and receipts alone."""
