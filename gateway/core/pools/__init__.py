"""Pools: the partitions of the service, what the catalogue knows of them, and which of them a queue is in."""
