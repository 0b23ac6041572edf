"""The clients that people already run, against a real gateway."""
