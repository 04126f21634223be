"""Peira: a laboratory for experiments on language models."""

__version__ = "0.1.0"
