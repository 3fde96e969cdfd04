"""Schedules as `optax.GradientTransformation`s."""
