"""Pruning: finds and zeroes the units of a concept, and measures what the network loses."""
