"""The protocol, sans-I/O: text in, text out, time as an argument."""
