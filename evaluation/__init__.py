"""Evaluation: tasks, metrics and tables."""
