"""Benchmarks that users run: retrieval and zero-shot classification by embedders, search of units with known truth."""
