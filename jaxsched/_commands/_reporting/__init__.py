"""`jaxsched report`: what a log holds, and the page that shows it."""
