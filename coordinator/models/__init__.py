"""The API's types, and nothing else: the contract's own, those of running flows, and of logging in."""

from coordinator.models.access import *  # noqa: F403
from coordinator.models.attempts import *  # noqa: F403
from coordinator.models.base import *  # noqa: F403
from coordinator.models.contract import *  # noqa: F403
from coordinator.models.control import *  # noqa: F403
from coordinator.models.events import *  # noqa: F403
from coordinator.models.filters import *  # noqa: F403
from coordinator.models.flows import *  # noqa: F403
from coordinator.models.listing import *  # noqa: F403
from coordinator.models.prerequisites import *  # noqa: F403
