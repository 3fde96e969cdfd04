"""`jaxsched find`: a range test of the digits or of a task of the user."""
