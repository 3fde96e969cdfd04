"""Finding a schedule: range test, populations, and the bound that ranks without training."""
