"""The least and the most that a number may be, on the command line and in a file."""

POSITIVE = 1, 10**6
EPOCHS = POSITIVE
SEEDS = 0, 2**32 - 1
