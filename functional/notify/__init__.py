"""Notifications from the post to receivers of all habits."""
