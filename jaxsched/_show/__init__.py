"""Looking at schedules."""
