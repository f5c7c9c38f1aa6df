"""Frames that no well-behaved peer would send: what the server must bear. `python -m tests.fuzz`."""
