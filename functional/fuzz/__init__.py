"""Random requests against a running gateway; a run of its own, since it takes minutes."""
