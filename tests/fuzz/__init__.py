"""Hostile input for each parser on its own: a short look in a plain run, a long one in tox's environment fuzz."""
