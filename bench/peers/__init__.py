"""Other model servers with our model, our parser and our payloads: only the serving differs."""
