"""The asyncio shells: they move text between sockets and `mergesync.sync`, and own the tasks and timers."""
