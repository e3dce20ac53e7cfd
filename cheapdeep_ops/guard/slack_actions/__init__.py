"""Buttons on Slack: people act on incidents from the message, by Socket Mode or by signed HTTP requests."""
