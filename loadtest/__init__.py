"""Load tests over HTTP. Knows the service only by its API: imports no other package of ours; needs Locust."""
