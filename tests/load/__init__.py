"""Loads to be run by hand; each prints what it measures."""
