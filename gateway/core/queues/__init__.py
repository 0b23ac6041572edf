"""Queues: which there are, where their messages are, and what their metadata says."""
