"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.budget.reader import BudgetReader
from cheapdeep_ops.guard.rules.budget.rule import BudgetRule
from cheapdeep_ops.guard.rules.budget.text import TEXT
from cheapdeep_ops.guard.rules.interface import RuleKind

BUDGET: Final = RuleKind(rule=BudgetRule, reader=BudgetReader, text=TEXT)
