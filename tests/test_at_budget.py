"""What calls do when a budget is used up: they go on, ship a cheap answer, or are refused."""

import pytest

from cheapdeep_ops import BudgetError, Outcome, Reason, Settings, decision_of
from cheapdeep_ops.budgets import Slice, Slices, charged_to, day_of, end_of, nusd
from cheapdeep_ops.errors import SettingsError, StoreError
from cheapdeep_ops.policy import PolicyAct, ScopeState, act_on, blank_book
from cheapdeep_ops.recorder.spending import Spending, spending_of
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.testing import Reply

HAIKU, SONNET, OPUS = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"
NOW = 1_800_000_000.0
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BYPASSED = {**QUESTION, "stop_sequences": ["END"]}
UNSURE, SURE = Reply.triage(0.4, "Perhaps."), Reply.triage(0.93, "Surely.")
USELESS = [Reply.triage(0.2, None), Reply.text("no JSON"), Reply.refusal(), Reply.error(529)]


def spending(at_budget, *budgets, otherwise="deep", left=0):
    """The budgets of a process that may spend `left` US dollars of each."""
    limits = dict.fromkeys(budgets, nusd(1.0))
    made = Spending(limits, at_budget=at_budget, otherwise=otherwise, now=lambda: NOW)
    made.asks()
    made.note(Slices([Slice(day_of(NOW), name, nusd(left), nusd(1.0)) for name in budgets], {}))
    return made


@pytest.fixture
def shell_with(open_shell, ledger):
    def make(*given, book=None, **options):
        changes = {name: options.pop(name) for name in list(options) if name in Settings.model_fields}
        ledger.spending = spending(*given, **options)
        if book is not None:
            ledger.book = book
        return open_shell(router={"recorder": ledger}, **changes)

    return make


def counts(ledger):
    tally = Tally()
    for decision in ledger.decisions:
        tally.add(decision)
    return tally


def models(api):
    return [request.model for request in api.requests]


class TestAlert:
    @pytest.mark.thorough
    def test_changes_no_call(self, api, shell_with, ledger):
        shell = shell_with("alert", "all", "deep")
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.ask().text == "Deep."
        assert (counts(ledger).budget_shipped, counts(ledger).budget_refused) == (0, 0)


class TestShip:
    @pytest.mark.parametrize("budget", ["deep", "all"])
    def test_a_cheap_answer_below_the_threshold_goes_out(self, api, shell_with, ledger, budget):
        shell = shell_with("ship", budget)
        api.enqueue(UNSURE, model=HAIKU)
        routed = shell.ask()
        assert (routed.text, routed.message.model.startswith(HAIKU)) == ("Perhaps.", True)
        assert models(api) == [HAIKU]
        (decision,) = ledger.decisions
        assert (decision.reason, decision.is_budgeted, decision.shipped) == (Reason.BUDGET, True, True)
        assert (decision.confidence, decision.threshold, decision.escalated) == (0.4, 0.8, False)
        # Storms read the base outcome, and no such answer is graded.
        assert (decision.base_outcome, decision.base_reason) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)
        assert decision.candidate is None
        counted = counts(ledger)
        assert (counted.budget_shipped, counted.base_escalated, counted.escalated) == (1, 1, 0)
        assert counted.reasons == {"budget": 1}

    def test_it_goes_out_in_a_stream_too(self, api, shell_with, ledger):
        shell = shell_with("ship", "deep")
        api.enqueue(UNSURE, model=HAIKU)
        events = shell.streamed_events(**QUESTION)
        texts = [each.delta.text for each in events if each.type == "content_block_delta"]
        assert "".join(texts) == "Perhaps."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.is_budgeted) == (Reason.BUDGET, True)
        assert (decision.base_outcome, decision.candidate, decision.error) == (Outcome.ESCALATE, None, "")
        assert models(api) == [HAIKU]

    @pytest.mark.thorough
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_a_confident_answer_ships_as_ever(self, api, shell_with, ledger, stream):
        shell = shell_with("ship", "deep")
        api.enqueue(SURE, model=HAIKU)
        _ = shell.streamed_events(**QUESTION) if stream else shell.ask()
        (decision,) = ledger.decisions
        assert (decision.reason, decision.is_budgeted, decision.base_outcome) == (None, False, Outcome.SHIP)

    @pytest.mark.thorough
    def test_a_withheld_answer_goes_out_and_stays_a_candidate(self, api, shell_with, ledger):
        raised = blank_book().with_scope(act_on(ScopeState(scope="*"), PolicyAct.RAISE, cause="EscalationStorm"))
        shell = shell_with("ship", "deep", book=raised)
        api.enqueue(Reply.triage(0.85, "Withheld."), model=HAIKU)
        assert shell.ask().text == "Withheld."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.base_outcome) == (Reason.BUDGET, Outcome.SHIP)
        assert decision.candidate is not None

    @pytest.mark.thorough
    def test_the_most_confident_of_several_tiers_goes_out(self, api, shell_with, ledger):
        shell = shell_with("ship", "deep", tiers=(HAIKU, SONNET, OPUS))
        api.enqueue(Reply.triage(0.6, "Of Haiku."), model=HAIKU)
        api.enqueue(Reply.triage(0.5, "Of Sonnet."), model=SONNET)
        assert shell.ask().text == "Of Haiku."
        (decision,) = ledger.decisions
        assert (decision.tier, decision.confidence, decision.reason) == (0, 0.6, Reason.BUDGET)

    @pytest.mark.thorough
    @pytest.mark.parametrize("cheap", USELESS, ids=["null", "malformed", "refusal", "failed"])
    def test_a_call_without_a_cheap_answer_goes_deep(self, api, shell_with, ledger, cheap):
        shell = shell_with("ship", "deep")
        api.enqueue(cheap, model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.ask().text == "Deep."
        assert not ledger.decisions[0].is_budgeted

    @pytest.mark.thorough
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_or_is_refused_by_a_setting(self, api, shell_with, ledger, stream):
        shell = shell_with("ship", "deep", otherwise="refuse")
        api.enqueue(USELESS[0], model=HAIKU)
        with pytest.raises(BudgetError, match="deep"):
            _ = shell.streamed_events(**QUESTION) if stream else shell.ask()
        with pytest.raises(BudgetError):
            shell.route(**BYPASSED)
        assert models(api) == [HAIKU]
        assert [each.is_refused for each in ledger.decisions] == [True, True]

    @pytest.mark.thorough
    def test_what_is_bypassed_goes_deep(self, api, shell_with):
        shell = shell_with("ship", "deep")
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.route(**BYPASSED).text == "Deep."


class TestRefuse:
    def test_a_call_that_escalates_is_refused_after_the_cheap_tier(self, api, shell_with, ledger):
        shell = shell_with("refuse", "deep")
        api.enqueue(UNSURE, model=HAIKU)
        with pytest.raises(BudgetError) as refused:
            shell.ask()
        assert (refused.value.budget, refused.value.resets_at) == ("deep", end_of(day_of(NOW)))
        assert "$1.00" in str(refused.value)
        (decision,) = ledger.decisions
        assert decision_of(refused.value).call_id == decision.call_id
        assert (decision.error, decision.is_refused, decision.escalated) == ("BudgetError", True, True)
        assert (decision.base_outcome, decision.reason) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)
        assert decision.cost_usd == decision.triage_cost_usd > 0
        assert models(api) == [HAIKU]
        counted = counts(ledger)
        assert (counted.budget_refused, counted.errors, counted.base_escalated, counted.unpriced) == (1, 1, 1, 0)

    @pytest.mark.thorough
    def test_a_confident_answer_needs_no_deep_tier(self, api, shell_with):
        shell = shell_with("refuse", "deep")
        api.enqueue(SURE, model=HAIKU)
        assert shell.ask().text == "Surely."

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_nothing_is_asked_once_all_spend_is_used_up(self, api, shell_with, ledger, stream):
        shell = shell_with("refuse", "all")
        with pytest.raises(BudgetError):
            _ = shell.streamed_events(**QUESTION) if stream else shell.ask()
        assert models(api) == []
        (decision,) = ledger.decisions
        # Such a call says nothing about the traffic: it was not triaged.
        assert (decision.reason, decision.base_outcome, decision.cost_usd) == (Reason.BUDGET, None, 0.0)
        assert (counts(ledger).triaged, counts(ledger).bypassed) == (0, 0)

    @pytest.mark.thorough
    def test_a_model_that_the_caller_names_is_refused_too(self, api, shell_with):
        shell = shell_with("refuse", "all")
        with pytest.raises(BudgetError):
            shell.route(**QUESTION, model=HAIKU)
        assert models(api) == []

    @pytest.mark.thorough
    def test_a_budget_with_money_left_refuses_nothing(self, api, shell_with):
        shell = shell_with("refuse", "deep", "all", left=0.5)
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.ask().text == "Deep."


class TestWhoPays:
    @pytest.mark.thorough
    def test_a_budget_of_a_route_or_a_key_holds_for_its_calls_alone(self, api, shell_with):
        shell = shell_with("refuse", "deep route support", "deep key mobile")
        for number in range(2):  # the first call of each goes on while the store is asked
            shell.router.spending.asks()
            day = day_of(NOW)
            names = ("deep route support", "deep key mobile")
            shell.router.spending.note(Slices([Slice(day, name, 0, nusd(1)) for name in names], {}))
            api.always(UNSURE, model=HAIKU)
            api.always(Reply.text("Deep."), model=OPUS)
            assert shell.ask().text == "Deep."
            if not number:
                shell.ask(route="support")
                with charged_to("mobile"):
                    shell.ask()
        with pytest.raises(BudgetError, match="deep route support"):
            shell.ask(route="support")
        with charged_to("mobile"), pytest.raises(BudgetError, match="deep key mobile"):
            shell.ask()
        with charged_to("web"):
            assert shell.ask().text == "Deep."

    def test_costs_count_in_each_budget_that_a_call_belongs_to(self, api, shell_with, ledger):
        shell = shell_with("alert", "all", "deep", "all key mobile", "deep route other", left=0.5)
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        with charged_to("mobile"):
            shell.ask()
        (decision,) = ledger.decisions
        deep = nusd(decision.hops[-1].cost_usd)
        spent = {each.budget: each.spent for each in ledger.spending.asks()[1]}
        assert spent["deep"] == deep > 0
        assert spent["all"] == spent["all key mobile"] == pytest.approx(nusd(decision.cost_usd), abs=1)
        assert "deep route other" not in spent  # no call has counted in it


class TestAProcess:
    def test_without_budgets_looks_at_nothing(self):
        made = Spending({}, at_budget="refuse")
        assert (made.is_on, made.limits_calls) == (False, False)
        made.require("a", "", is_deep=True)
        made.note(Slices([], {"deep": 5}))
        assert (made.is_on, made.limits_calls) == (True, True)
        made.note(Slices([], {}))
        assert not made.is_on

    def test_goes_on_until_the_first_answer_for_five_seconds_and_with_a_slice_for_ten_minutes(self):
        at = [100.0]
        made = Spending({"all": 1000}, at_budget="refuse", now=lambda: NOW, monotonic=lambda: at[0])
        made.require("a", "", is_deep=False)
        at[0] += 5
        with pytest.raises(BudgetError):
            made.require("a", "", is_deep=False)
        made.asks()
        made.note(Slices([Slice(day_of(NOW), "all", 100, 1000)], {}))
        at[0] += 599
        made.require("a", "", is_deep=False)
        at[0] += 1
        with pytest.raises(BudgetError):
            made.require("a", "", is_deep=False)

    def test_asks_when_a_quarter_of_a_slice_is_spent_and_begins_anew_at_midnight(self):
        at, now, low = [100.0], [end_of(day_of(NOW)) - 1], []
        made = Spending(
            {"all": nusd(1)},
            at_budget="ship",
            on_low=lambda: low.append(1),
            now=lambda: now[0],
            monotonic=lambda: at[0],
        )
        made.asks()
        made.note(Slices([Slice(day_of(now[0]), "all", nusd(0.1), nusd(1))], {}))
        at[0] += 1
        assert not made.is_due
        made.spend("a", "", usd=0.02)
        assert (low, made.is_due) == ([], False)
        made.spend("a", "", usd=0.04)
        made.spend("a", "", usd=None)
        assert (low, made.is_due) == ([1], True)
        now[0] += 1
        number, (last, first) = made.asks()
        assert (number, last.spent, last.unpriced, last.is_last) == (2, nusd(0.06), 1, True)
        assert (first.day - last.day, first.spent, first.ceiling) == (1, 0, 0)
        # The store was away: what was not told is told again.
        assert made.asks()[1][0] == last
        made.note(Slices([], {}))
        assert [each.day for each in made.asks()[1]] == [first.day]

    def test_gives_the_slice_of_a_key_back_that_rests(self):
        at = [100.0]
        made = Spending({}, at_budget="refuse", now=lambda: NOW, monotonic=lambda: at[0])
        made.limit_keys({"mobile": (1.0, None), "web": (None, 2.0)})
        assert made.asks()[1] == []
        made.spend("a", "mobile", usd=0.1)
        (ask,) = made.asks()[1]
        assert (ask.budget, ask.limit, ask.is_last) == ("all key mobile", nusd(1), False)
        made.note(Slices([Slice(ask.day, ask.budget, nusd(0.2), nusd(1))], {}))
        at[0] += 61
        assert [each.is_last for each in made.asks()[1]] == [True]
        assert made.asks()[1] == []
        made.require("a", "mobile", is_deep=False)
        (again,) = made.asks()[1]
        assert (again.spent, again.ceiling) == (nusd(0.1), nusd(0.1))
        made.limit_keys({})
        assert not made.is_on

    def test_is_another_one_after_a_fork(self):
        made = Spending({"all": 1000}, at_budget="refuse")
        made.spend("a", "", usd=1.0)
        before = made.holder
        made.restart()
        assert made.holder != before
        assert made.asks()[1][0].spent == 0


def test_settings_say_the_limits_and_a_budget_needs_the_record():
    settings = Settings(usd_per_day=2.5, deep_usd_per_day=1)
    made = spending_of(settings, on_low=lambda: None, now=lambda: NOW)
    assert {each.budget: each.limit for each in made.asks()[1]} == {"all": nusd(2.5), "deep": nusd(1)}
    with pytest.raises(SettingsError, match="CHEAPDEEP_RECORD"):
        Settings(usd_per_day=1, record=False)
    with pytest.raises(SettingsError, match="CHEAPDEEP_USD_PER_DAY"):
        Settings(usd_per_day=0)


def test_a_process_without_a_slice_does_not_ask_with_each_call():
    at, low = [100.0], []
    made = Spending(
        {"all": 1000}, at_budget="ship", on_low=lambda: low.append(1), now=lambda: NOW, monotonic=lambda: at[0]
    )
    made.asks()
    made.note(Slices([Slice(day_of(NOW), "all", 0, 1000)], {}))
    for _ in range(20):
        at[0] += 0.04
        made.spend("a", "", usd=0.1)
    assert (low, made.is_due) == ([], False)
    at[0] += 0.3
    assert made.is_due


def test_a_revoked_keys_spend_is_told_once_more():
    made = Spending({}, at_budget="refuse", now=lambda: NOW)
    made.limit_keys({"mobile": (1.0, None)})
    made.spend("a", "mobile", usd=0.25)
    made.limit_keys({})
    (ask,) = made.asks()[1]
    assert (ask.budget, ask.spent, ask.is_last) == ("all key mobile", nusd(0.25), True)
    made.note(Slices([], {}))
    assert made.asks()[1] == []


def test_a_key_that_is_made_anew_goes_on_from_what_it_has_spent():
    made = Spending({}, at_budget="refuse", now=lambda: NOW)
    made.limit_keys({"mobile": (1.0, None)})
    made.spend("a", "mobile", usd=0.25)
    made.limit_keys({})
    made.limit_keys({"mobile": (1.0, None)})
    made.spend("a", "mobile", usd=0.5)
    assert made.asks()[1][-1].spent == nusd(0.75)


def test_a_key_that_is_revoked_while_a_request_is_on_its_way_is_told_by_the_next_one():
    made = Spending({"all": nusd(1)}, at_budget="refuse", now=lambda: NOW)
    made.limit_keys({"mobile": (1.0, None)})
    made.spend("a", "mobile", usd=0.25)
    made.asks()
    made.limit_keys({})
    made.note(Slices([], {}))
    assert ("all key mobile", nusd(0.25), True) in [(each.budget, each.spent, each.is_last) for each in made.asks()[1]]


def test_a_slice_that_is_given_back_stops_no_call_that_comes_meanwhile():
    at = [100.0]
    made = Spending({}, at_budget="refuse", now=lambda: NOW, monotonic=lambda: at[0])
    made.limit_keys({"mobile": (1.0, None)})
    made.spend("a", "mobile", usd=0.1)
    (ask,) = made.asks()[1]
    made.note(Slices([Slice(ask.day, ask.budget, nusd(0.2), nusd(1))], {}))
    at[0] += 61
    (last,) = made.asks()[1]
    assert last.is_last
    made.require("a", "mobile", is_deep=False)
    made.note(Slices([Slice(last.day, last.budget, last.spent, nusd(1))], {}))
    made.require("a", "mobile", is_deep=False)


def test_many_keys_have_their_turns_within_five_seconds_and_those_with_little_left_first():
    at = [100.0]
    made = Spending({}, at_budget="refuse", now=lambda: NOW, monotonic=lambda: at[0])
    names = [f"key {number}" for number in range(1_000)]
    made.limit_keys(dict.fromkeys(names, (1.0, None)))
    for name in names:
        made.spend("a", name, usd=0.0)
    for _ in range(2):
        asked = made.asks()[1]
        made.note(Slices([Slice(each.day, each.budget, nusd(0.1), nusd(1)) for each in asked], {}))
    assert made.due_in_s == pytest.approx(2.5)
    assert {each.budget for each in made.asks()[1]}.isdisjoint(each.budget for each in asked)
    low = asked[-1].budget
    made.spend("a", low.removeprefix("all key "), usd=0.09)
    assert made.asks()[1][0].budget == low


def test_a_request_that_fails_is_sent_again_soon():
    at = [100.0]
    made = Spending({"all": 1000}, monotonic=lambda: at[0])

    def away(*_):
        raise StoreError("away")

    with pytest.raises(StoreError):
        made.renew(away)
    assert not made.is_due
    at[0] += 1
    assert made.is_due
