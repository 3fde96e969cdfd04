"""The basis of all rooms: integer time, numerics, nodes and their fields, validation, messages."""
