"""Re-ranking in bulk: Parquet in, Parquet out, with the service's own judgement of every row.

Knows the service's bodies, its checks and how it prepares a list, so that a row gets the list that the same
request gets; nothing of HTTP, queues, deadlines and stores.
"""
