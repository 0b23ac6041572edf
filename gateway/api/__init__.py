"""The HTTP APIs, a version each: parse, call the core, render."""
