"""Loss laws: what the loss of a run will be, and what the rest of its schedule should be."""
