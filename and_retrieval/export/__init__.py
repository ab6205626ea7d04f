"""Explanations for other programs: lines, tables, maps of units, features."""
