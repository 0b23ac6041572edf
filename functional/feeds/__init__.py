"""Live feeds: how they end, what rude clients can do with them, browsers, and the examples of the documentation."""
