"""Averages of the parameters, kept in the optimizer state."""
