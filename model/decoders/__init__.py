"""Autoregressive decoders behind one protocol; each file is one of them."""
