"""Removing a concept: which units, what it costs, and weights without them."""
