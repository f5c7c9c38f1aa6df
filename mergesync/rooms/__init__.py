"""Rooms: who may do what on a path, and what of a client's changes is let through. Pure: no I/O, no clock."""
