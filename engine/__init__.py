"""Runs a bundle: sessions, runners, compiled decoding, slates. No torch, no HTTP, no users."""
