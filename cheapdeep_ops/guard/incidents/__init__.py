"""From alerts to incidents: evaluate all rules, decide the changes, announce them."""
