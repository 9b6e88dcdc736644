"""The closed loop: simulated people call the running service, and what they do trains its next model.

`python -m loop`. Knows the click model of the simulator, which neither the service nor training ever sees.
"""
