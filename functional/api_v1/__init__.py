"""Versions 1 and 1.1 of the API, beside version 2."""
