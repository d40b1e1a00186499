"""Message brokers: the form in which batches go through one, and the clients of each kind."""
