"""Queues, exchanges and messages of others: what is read from them, what is posted to them, and who may do it."""
