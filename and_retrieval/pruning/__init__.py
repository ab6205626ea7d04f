"""Pruning: the units of a concept are found and zeroed, and what the network loses is measured."""
