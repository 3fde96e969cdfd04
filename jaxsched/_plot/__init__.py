"""Pictures: what is drawn, and the pens that draw it."""
