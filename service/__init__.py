"""The online service: HTTP, deadlines, queues, users and fallbacks. Never imports torch."""
