"""What every room stands on: integer time, digits, nodes and their fields, validation, messages."""
