"""Parsing of text into schedules."""
