"""How split learning compresses activations and gradients: one method a file, each an encoder and a decoder.

Imports torch, so nothing is imported here. `methods` makes them by name.
"""
