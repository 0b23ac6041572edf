"""The fault run of notifications; see docs/reliability.md."""
