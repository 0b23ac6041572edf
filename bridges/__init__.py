"""Bridges: how messages get into a broker and out of it again."""
