"""What each kind of rule measures, when its alert fires, and what an alert says."""
