"""Dashboards, written by `generate.py`."""
