"""Looking at schedules: tables, simulations, and the pens that draw them."""
