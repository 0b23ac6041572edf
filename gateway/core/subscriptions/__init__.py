"""Subscriptions: who is told of the messages of a queue, and how that is kept."""
