"""Side-stores: where claims, TTLs, queue metadata and landed messages live."""
