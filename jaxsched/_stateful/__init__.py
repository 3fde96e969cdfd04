"""Stateful schedules: what reacts to the run."""
