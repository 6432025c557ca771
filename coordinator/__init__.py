"""HeroCoordinator: an actor-model coordinator for distributed work on trio, with state in Valkey or Redis."""

__version__ = "0.2.0"

ENVIRONMENT_PREFIX = "HEROCOORDINATOR"
"""How the variables begin that set what options do."""
