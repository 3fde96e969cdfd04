"""The commands: one a file, with its description and its options."""
