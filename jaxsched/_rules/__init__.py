"""Rules: what reacts to the run. Each is a small state machine in a file of its own."""
