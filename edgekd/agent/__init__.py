"""All that travels to a device: Python 3.8, numpy and the runtime under test; nothing else.

``python -m edgekd.agent job.json`` reads a job and prints JSON lines. It imports nothing of edgekd
but this package, so that a zip of it is whole.
"""
