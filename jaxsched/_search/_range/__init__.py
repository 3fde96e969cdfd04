"""The range test: what is stepped through, on what, what was found, and whether to believe it."""
