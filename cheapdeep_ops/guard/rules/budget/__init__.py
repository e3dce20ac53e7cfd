"""Rules on budgets: dollars for a day of UTC."""
