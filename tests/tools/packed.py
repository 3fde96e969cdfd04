"""What a test does to a packed state that no user does."""

from jaxsched._core._packed import PackedState, record_of, with_record
from jaxsched._core._trees import unpacked


def changed(state: PackedState, **fields):
    """A state with other numbers in some fields of its record."""
    return with_record(state, record_of(state)._replace(**fields))


def record(state):
    """The state with records of named numbers in place of packed ones."""
    return unpacked(state)
