"""Rules: stateful schedules that respond to metrics. Each rule has a file of its own."""
