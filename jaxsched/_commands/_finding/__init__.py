"""`jaxsched find`: a range test on the digits, or on a user's task."""
