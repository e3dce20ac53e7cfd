"""Services, guards and databases under seeded faults; an audit of what was counted, told and decided."""
