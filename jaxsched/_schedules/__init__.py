"""Schedules: what one is, the operators, and every curve, decay and recipe."""
