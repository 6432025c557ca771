"""What each role may do: the meaning of the column `right` in the table of methods. What is not said here is denied."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["ROLES", "TABLE", "Cell", "Right", "Role", "Row", "Rules"]


class Role(Enum):
    """What a principal is to the context of a call, or to the coordinator if the call is about no context."""

    OPERATOR = "operator"
    ADMIN = "admin"
    EXECUTOR = "executor"
    READER = "reader"
    RUNNER = "runner"
    STRANGER = "stranger"


ROLES: Final = tuple(Role)


class Right(Enum):
    """What a method takes. The value is what an error calls it."""

    PUBLIC = "nothing"
    SIGNED_IN = "a login"
    ACTOR_CREATE = "create actors"
    ACTOR_LOAD = "load this actor"
    KEY_ROTATE = "change this actor's key"
    ACTOR_REVOKE = "revoke actors"
    CONTEXT_WRITE = "administer the context"
    CONTEXT_CONTROL = "pause the context"
    CONTEXT_DELETE = "delete the context"
    CONTEXT_READ = "read the context"
    CONTEXT_LIST = "list contexts"
    RUNNER_WRITE = "administer runners"
    RUNNER_READ = "read runners"
    RUNNERS_CONNECTED = "count runners"
    STATS_READ = "count jobs and flows"
    WORK = "work as this runner"
    ATTEMPT = "report on this runner's attempts"
    RECORD_WRITE = "create jobs, flows and messages"
    RUN = "run flows and messages"
    DELETE = "delete jobs, flows and messages"
    RECORD_READ = "read jobs, flows and messages"
    FLOW_READ = "follow flows"
    LOG_READ = "read logs"
    PREREQUISITE_WRITE = "satisfy prerequisites"
    PREREQUISITE_READ = "list prerequisites"


class Cell(Enum):
    """How far a role has a right."""

    NO = "no"
    YES = "yes"
    SELF = "only of itself"
    OWN = "only of what is its own"
    OWN_IDLE = "only of what is its own and does not run"
    OWN_FLOWS = "only for flows of its own"
    MEMBERS = "only of members of a context of its own"
    KEEPING_KEYS = "but no other key for who is there"
    BY_SETTING = "if the coordinator is set so"
    OWN_SUBMITTED = "own and idle, unless the coordinator is set otherwise"
    WITHOUT_FOREIGN_ENV = "without others' env_vars"
    WITHOUT_ENV = "without env_vars"
    WITHOUT_ADMINS = "without admins"
    WITHOUT_ADDRESS = "without addresses"
    LOGS_BY_SETTING = "logs if the coordinator is set so"


class Row(NamedTuple):
    """The cells of one right, by role."""

    operator: Cell = Cell.NO
    admin: Cell = Cell.NO
    executor: Cell = Cell.NO
    reader: Cell = Cell.NO
    runner: Cell = Cell.NO
    stranger: Cell = Cell.NO

    def of(self, role: Role) -> Cell:
        cell: Cell = getattr(self, role.value)
        return cell


_NO, _YES, _OWN, _SELF = Cell.NO, Cell.YES, Cell.OWN, Cell.SELF
_ALL: Final = Row(_YES, _YES, _YES, _YES, _YES, _YES)

# Of a call that is about no context, an actor is a stranger, and a runner a runner.
TABLE: Final[Mapping[Right, Row]] = {
    # right:                   operator, admin, executor, reader, runner, stranger
    Right.PUBLIC: _ALL,
    Right.SIGNED_IN: _ALL,
    Right.ACTOR_CREATE: Row(operator=Cell.KEEPING_KEYS, stranger=Cell.BY_SETTING),
    Right.ACTOR_LOAD: Row(_YES, Cell.MEMBERS, _SELF, _SELF, _NO, _SELF),
    Right.KEY_ROTATE: Row(_YES, _SELF, _SELF, _SELF, _NO, _SELF),
    Right.ACTOR_REVOKE: Row(_YES),
    Right.CONTEXT_WRITE: Row(_YES, _YES, stranger=Cell.BY_SETTING),
    Right.CONTEXT_CONTROL: Row(_YES, _YES),
    Right.CONTEXT_DELETE: Row(_YES, _YES),
    Right.CONTEXT_READ: Row(_YES, _YES, _YES, Cell.WITHOUT_ADMINS, _YES),
    Right.CONTEXT_LIST: Row(_YES, _OWN, _OWN, _OWN, _OWN, _OWN),
    Right.RUNNER_WRITE: Row(_YES, _YES),
    Right.RUNNER_READ: Row(_YES, _YES, _YES, Cell.WITHOUT_ADDRESS, _SELF),
    Right.RUNNERS_CONNECTED: Row(_YES, _YES, _YES, _YES),
    Right.STATS_READ: Row(_YES, _YES, _YES, _YES),
    Right.WORK: Row(runner=_SELF),
    Right.ATTEMPT: Row(runner=_OWN),
    Right.RECORD_WRITE: Row(_YES, _YES, Cell.OWN_SUBMITTED),
    Right.RUN: Row(_YES, _YES, _OWN),
    Right.DELETE: Row(_YES, _YES, Cell.OWN_IDLE),
    Right.RECORD_READ: Row(_YES, _YES, Cell.WITHOUT_FOREIGN_ENV, Cell.WITHOUT_ENV),
    Right.FLOW_READ: Row(_YES, _YES, Cell.WITHOUT_FOREIGN_ENV, Cell.LOGS_BY_SETTING),
    Right.LOG_READ: Row(_YES, _YES, _YES, Cell.LOGS_BY_SETTING),
    Right.PREREQUISITE_WRITE: Row(_YES, _YES, Cell.OWN_FLOWS),
    Right.PREREQUISITE_READ: Row(_YES, _YES, _YES, _YES),
}


class Rules(NamedTuple):
    """What the settings say.

    Attributes:
        registration: whether anybody may create actors that are new, and actors new contexts of their own.
        executors_submit: executors may create and delete what is their own; if not, they run what is there.
        readers_see_logs: so they do.
    """

    registration: bool = False
    executors_submit: bool = True
    readers_see_logs: bool = False
