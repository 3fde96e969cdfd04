"""The training run behind `jaxsched train`: one concept per file, extras imported when needed."""
