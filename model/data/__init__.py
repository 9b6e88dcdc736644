"""Logs and simulations, all as the same slates. See slate.py for what every dataset gives."""
