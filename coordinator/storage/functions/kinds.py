"""What is known of a function before it is called: whether it may be much work, grows what is stored, or only looks."""

from __future__ import annotations

from typing import Final

from coordinator.storage.keys import Command, Transition

LONG: Final = frozenset(
    {
        *("hc_flow_start", "hc_flow_retry", "hc_flow_cancel", "hc_flow_check", "hc_flow_create", "hc_flow_add"),
        *("hc_flow_mark", "hc_flow_rerun"),
        *("hc_message_send", "hc_message_check", "hc_message_begin", "hc_message_start"),
        *("hc_record_delete", "hc_prerequisite_satisfy", "hc_tick", "hc_job_cancel", "hc_flow_pause"),
        *("hc_guarded_long", "hc_guarded_long_ending"),
    }
)
"""Functions one call of which may be as much work as a call may be, whatever the number of its arguments."""

GROWING: Final = frozenset(
    {
        *("hc_record_upsert", "hc_job_upsert", "hc_flow_upsert", "hc_flow_draft", "hc_message_upsert"),
        "hc_context_upsert",
        *("hc_flow_submit", "hc_flow_create", "hc_flow_add"),
        "hc_flow_start",
        *("hc_flow_retry", "hc_flow_mark", "hc_flow_rerun"),
        *("hc_message_send", "hc_message_begin", "hc_message_start"),
        "hc_prerequisite_satisfy",
        "hc_log",
        *("hc_guarded", "hc_guarded_long", "hc_token_create"),
    }
)
"""Transitions that are refused while the store is out of memory. All others go on, so that it can be emptied."""


def looking(transition: Transition) -> Command:
    """A transition that only looks, as a command that is not joined with others, of which some may write: it is
    answered while the store takes no writes, and needs nobody to be known as a writer."""
    return (*transition,)
