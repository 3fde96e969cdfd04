"""The state of any optimizer: reading it, writing it, and carrying it across a change."""
