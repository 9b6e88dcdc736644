"""Prometheus: its configuration, rules and their tests, and a way to run it on this machine."""
