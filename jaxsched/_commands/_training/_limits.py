"""The limits of numbers, on the command line and in files."""

POSITIVE = 1, 10**6
EPOCHS = POSITIVE
SEEDS = 0, 2**32 - 1
