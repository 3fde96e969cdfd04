"""Diagnosis: what is remembered of a run, what it shows, and what to do about it."""
