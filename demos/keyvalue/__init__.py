"""The parts of the demo `redis_server.py`, one idea in each file.

Shows: a server whose protocol, store, commands and file know nothing of each other's work, and can be tested alone.

Run it:  python demos/redis_server.py    (this folder does nothing by itself)
"""
