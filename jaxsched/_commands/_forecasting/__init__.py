"""What only `jaxsched forecast` needs."""
