"""The device's side: the agent, its heads, the real-time driver and the Client.

Needs numpy only, but for the two heads: torch or ONNX Runtime.
"""
