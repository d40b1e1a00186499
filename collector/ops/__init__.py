"""What operators see of a running process: logs, metrics, health. Constants and counts only."""
