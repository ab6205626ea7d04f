"""Compares two runs: layer by layer, unit by unit, and says what may be claimed of them."""
