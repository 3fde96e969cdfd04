"""`jaxsched train`: the run, its settings, its checkpoints and its folder."""
