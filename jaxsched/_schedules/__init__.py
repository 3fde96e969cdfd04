"""Schedules: the base class, the operators, and every curve, decay and recipe."""
