"""splitpoint: edge-server split inference with one vision transformer, in simulation and on real boards."""

__version__ = "0.1.0"
