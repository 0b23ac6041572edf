"""``marconi bench``: measures servers of the Messaging API side by side. It imports nothing else of the gateway."""
