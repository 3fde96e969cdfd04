"""The page of a run: what a logger has left in a folder, as curves and numbers."""
