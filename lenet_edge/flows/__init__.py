"""Flows join stages: what each stage alone must not know."""
