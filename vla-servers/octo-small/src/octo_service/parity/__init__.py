"""Parity with the reference: recorded outputs of octo-models/octo, and how far this model is from them."""

from octo_service.parity.comparison import compare
from octo_service.parity.measures import Comparison
from octo_service.parity.report import report
from octo_service.parity.suites import compare_all

__all__ = ["Comparison", "compare", "compare_all", "report"]
