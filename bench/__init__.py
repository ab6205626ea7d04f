"""Measurements that anyone can repeat: each module has `run()` and prints its result as JSON."""
