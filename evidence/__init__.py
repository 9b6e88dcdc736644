"""The evidence for the method: what is run, on what, and the tables and figures that come of it."""
