"""Escrow: a saga orchestrator that keeps every order moving to a right end."""
