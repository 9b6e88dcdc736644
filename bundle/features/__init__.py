"""Raw items, users and requests to arrays: one piece of torch-free code, used by training and serving.

schema.py declares the fields, fitting.py learns vocabularies and scales from training data only,
catalogue.py holds the encoded items, assembly.py writes the encoder's inputs for a request.
"""
