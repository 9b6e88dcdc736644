"""From a trained checkpoint to a verified bundle. Imports model, and the engine that will serve it."""
