"""From text to schedules."""
