"""Rules on the escalation rate: windows, a sequential test, and what a storm is made of."""
