"""The HTTP layer: parse, call the core, render."""
