"""Finding a schedule: the range test, populations, and the bound that ranks without training."""
