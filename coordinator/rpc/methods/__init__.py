"""The table of methods: one row a method, by subject. A new method is a row, its models, its operation and a test."""

from coordinator.rpc.methods.access import ACCESS_METHODS
from coordinator.rpc.methods.control import CONTROL_METHODS
from coordinator.rpc.methods.execution import EXECUTION_METHODS
from coordinator.rpc.methods.listing import LISTING_METHODS
from coordinator.rpc.methods.records import CONTRACT_METHODS

__all__ = ["METHODS"]

METHODS = {**CONTRACT_METHODS, **EXECUTION_METHODS, **LISTING_METHODS, **CONTROL_METHODS, **ACCESS_METHODS}
