"""Schedules and rules as `optax.GradientTransformation`s."""
