"""What callers see of a running service while something breaks: `python -m faults`."""
