"""Measurements, each one command; they decide no test."""
