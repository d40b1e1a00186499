"""Logs and metrics for operators, made of constants and counts only."""
