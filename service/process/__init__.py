"""Processes: one server on a port, or a supervisor of several."""
