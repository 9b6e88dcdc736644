"""What a trained model is on disk, and how raw features become its inputs.

Known to those who write a bundle (`model`, `export`) and to those who read it (`engine`, `service`).
No torch, no onnxruntime.
"""
