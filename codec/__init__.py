"""Activations to payloads and back: token selection, bottleneck dims, nested integers, bit planes, entropy
coding, batch merging (ADC), images, and the request that carries them. Imports numpy and `protos/` only;
Pillow where images are coded, constriction where it is installed.
"""
