"""`jaxsched report`: reads a log, and makes a page that shows it."""
