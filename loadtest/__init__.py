"""Load tests over HTTP. Knows the service by its API only: imports nothing of ours, and needs Locust."""
