"""Diagnosis: the record of a run, its scores, and advice in sentences."""
