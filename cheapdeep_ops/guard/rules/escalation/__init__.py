"""Rules on the escalation rate: windows, a sequential test, and the cause and cost of a storm."""
