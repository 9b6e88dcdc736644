"""The bodies of requests and responses: names, types, meaning and examples. The OpenAPI text comes from here.

Used by `api`, which reads and writes them, and by `serving`, which turns a request into a response. `twins`
generates from them what the hot path decodes and encodes. Limits that are settings (sizes, counts) are
checked in `service.api.validation`. Knows nothing of models or stores.
"""
