"""The commands, one a file: what it says of itself, its options, and what it does."""
