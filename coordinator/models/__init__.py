"""The API's types, and nothing else: the contract's own, and those of running flows."""

from coordinator.models.base import *  # noqa: F403
from coordinator.models.contract import *  # noqa: F403
from coordinator.models.execution import *  # noqa: F403
