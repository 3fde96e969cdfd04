"""What the person at the keyboard can put right: one line, no traceback."""


class RefusedError(Exception):
    """A run that cannot be, and what to do about it."""
