"""Other servers to compare the gateway with; see docs/performance.md."""
