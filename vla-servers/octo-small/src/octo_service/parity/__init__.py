"""Parity with the reference: recorded outputs of octo-models/octo, and how far this model is from them."""
