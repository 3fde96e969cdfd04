"""Functions on the state of any optimizer: readers, writers, and `graft`."""
