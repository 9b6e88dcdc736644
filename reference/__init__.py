"""Pages that are made from the code: docs/reference. `python -m reference` writes them."""
