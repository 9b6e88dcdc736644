"""What the service did and what came of it, line by line: known to what serves and to what learns from it.

No torch, no HTTP; where the lines are written, and who reads them, is not known here.
"""
