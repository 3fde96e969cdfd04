"""Searching for a schedule: the range test, populations, and a bound that needs no training."""
