"""Delivery of notifications: from the queues of subscriptions to their receivers."""
