"""From a valid request to its list: the models that are served, their queues, features, fallbacks."""
