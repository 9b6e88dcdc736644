"""The bodies of requests and responses: names, types, meaning and examples. The OpenAPI text is here.

Known to `api`, which reads and writes them, and to `serving`, which answers one with another. `twins` makes
what the hot path decodes and encodes from them. Limits that are settings (sizes, counts) are not here: see
`service.api.validation`. Knows nothing of models or stores.
"""
