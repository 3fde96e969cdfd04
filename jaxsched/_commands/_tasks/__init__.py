"""The tasks of `jaxsched train` and `jaxsched find`: the digits, or a model of the user."""
