"""Runs a bundle: sessions, runners, compiled decoding, slates. No torch, no HTTP, no users."""

import os

# ONNX Runtime reads it when it is imported, which is done below this package alone. Without it there is a
# database under the home directory and a search for its collector, `disable_telemetry_events()` or not.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
