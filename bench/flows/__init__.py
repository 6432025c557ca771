"""Flows of one parent over four children, run to the end, beside BullMQ, RQ and Celery on the same Valkey."""
