"""The commands. Each has a file of its own, with its description and its options."""
