"""Many who wait at a gateway, for messages that come: what they cost, and how soon each is told."""
