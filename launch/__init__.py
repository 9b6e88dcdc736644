"""Starts servers on this machine and waits until they are ready: for tests, benchmarks, the demo, a look."""
