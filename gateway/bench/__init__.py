"""``marconi bench``: measures servers of the Messaging API side by side; it needs nothing else of the gateway."""
