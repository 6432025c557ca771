"""Tests of the clients in `clients/`, each against a real coordinator."""
