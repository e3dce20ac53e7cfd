"""From alerts to incidents: evaluate all rules, decide what changes, announce it."""
