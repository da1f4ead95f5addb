"""`doctor`: what keeps this host from doing its work, each found thing with its remedy.

A check is a function that returns findings; `findings.py` runs them and shows what they say.
Devices and workers have their own lists (`edge_agent/doctor`, `cloud_side/doctor.py`) of the
checks here and of theirs.
"""
