"""Benchmarks: what is measured, how, and the tables of docs/performance.md.

Nothing here is served or trained; timings never fail a test.
"""
