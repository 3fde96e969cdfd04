"""Plotting and description: tables, simulations, and drawing backends."""
