"""Replies that are parsed in one step: equal to what the SDK makes of them, or left to the SDK."""
