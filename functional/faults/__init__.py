"""Faults under load: a cluster on this machine, what goes wrong in it, and whether its promises hold meanwhile."""
