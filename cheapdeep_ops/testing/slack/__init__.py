"""The simulated Slack: its server, its messages and its faults."""
