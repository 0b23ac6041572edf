"""Queues that move from pool to pool while they are used, with and without faults."""
