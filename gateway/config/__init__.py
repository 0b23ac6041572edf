"""The configuration: options, drivers, and what is refused before anything is served."""
