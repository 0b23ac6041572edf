"""The configuration: options, how they are read, drivers by URI scheme, and checks before the start."""
