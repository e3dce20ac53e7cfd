"""Ready-made classes of traffic: calm, storm, and classes with a known weakness."""

from typing import Final

from cheapdeep_ops.testing.traffic.kinds import TrafficClass

FAQ: Final = TrafficClass(
    name="faq",
    marker="FAQ ticket",
    confidences={0.95: 44, 0.9: 20, 0.85: 16, 0.8: 10, 0.7: 5, 0.6: 3, 0.4: 1.5, None: 0.5},
    accuracy={0.95: 0.99, 0.9: 0.98, 0.85: 0.97, 0.8: 0.95, 0.7: 0.85, 0.6: 0.7, 0.4: 0.5},
    prompt_templates=(
        "{marker} {n}: how do I reset my password when I no longer have the old phone?",
        "Hi! {marker} {n}. Where can I see which devices are signed in to my account?",
        "{marker} {n}: I would like to change the language of the app. Where is that setting?",
    ),
)
"""Calm: at a threshold of 0.8 it escalates 10%, at 0.9 it escalates 36%."""

BILLING: Final = TrafficClass(
    name="billing",
    marker="billing ticket",
    confidences={0.95: 35, 0.9: 20, 0.85: 15, 0.8: 10, 0.7: 10, 0.6: 5, 0.3: 4, None: 1},
    accuracy={0.95: 0.98, 0.9: 0.97, 0.85: 0.95, 0.8: 0.93, 0.7: 0.8, 0.6: 0.7, 0.3: 0.4},
    prompt_templates=(
        "About {marker} {n}: why was I charged twice this month?",
        "Please look at {marker} {n}. The invoice does not show our VAT number.",
        "{marker} {n}: when will the refund for the cancelled order arrive?",
    ),
)
"""Everyday: at a threshold of 0.8 it escalates 20%, at 0.9 it escalates 45%."""

LEGAL: Final = TrafficClass(
    name="legal",
    marker="legal ticket",
    confidences={0.95: 10, 0.9: 7, 0.85: 4, 0.8: 4, 0.7: 30, 0.6: 20, 0.45: 12, 0.3: 10, None: 3},
    accuracy={0.95: 0.97, 0.9: 0.95, 0.85: 0.92, 0.8: 0.9, 0.7: 0.7, 0.6: 0.6, 0.45: 0.45, 0.3: 0.3},
    prompt_templates=(
        "Regarding {marker} {n}: which clause covers liability for data that a subcontractor lost?",
        "{marker} {n}: our lawyer asks whether the notice period starts with receipt or with dispatch.",
    ),
)
"""A storm: at a threshold of 0.8 it escalates 75%."""

BAND30: Final = TrafficClass(
    name="band30",
    marker="warranty ticket",
    confidences={0.95: 25, 0.9: 15, 0.85: 20, 0.8: 10, 0.7: 20, 0.6: 10},
    accuracy=0.95,
    prompt_templates=(
        "{marker} {n}: the handle broke after a year. Is that covered?",
        "Hello, {marker} {n}, do I keep the warranty when I replace the battery myself?",
    ),
)
"""Escalates 30% at a threshold of 0.8 and 60% at 0.9; the limit is 35%, so it shows if a raise feeds the storm rule."""

OVERCONFIDENT: Final = TrafficClass(
    name="overconfident",
    marker="compatibility ticket",
    confidences={0.97: 60, 0.92: 30, 0.9: 6, 0.85: 2, 0.7: 2},
    accuracy=0.6,
    prompt_templates=(
        "{marker} {n}: does the new charger work with the model of last year?",
        "For {marker} {n}: which firmware do I need before I connect the second sensor?",
    ),
)
"""Confident (96% at 0.9 or above) and wrong in 40% of its answers: raising the threshold does not help."""

OUTDATED: Final = TrafficClass(
    name="outdated",
    marker="tariff ticket",
    confidences={0.95: 40, 0.88: 30, 0.85: 20, 0.7: 7, 0.4: 3},
    accuracy={0.95: 0.97, 0.88: 0.4, 0.85: 0.35, 0.7: 0.4, 0.4: 0.3},
    prompt_templates=(
        "{marker} {n}: which price applies since the tariffs were changed last week?",
        "Hi, {marker} {n}: do I keep the old tariff when I move to another city?",
    ),
)
"""Drift: of shipped answers, a third is wrong at 0.8 and 3% at 0.9; escalation at 0.8 stays at 10%."""

# Rates at the two thresholds and accuracy: Claude 3 Haiku on the BoolQ validation set, LifeEval,
# NoamMichael/Comparing-Confidence-in-LLMs at 560aae7 (MIT). The distribution within the bands is an assumption.
BOOLQ_CLAUDE3HAIKU: Final = TrafficClass(
    name="boolq_claude3haiku",
    marker="passage question",
    confidences={0.95: 60, 0.9: 27.5, 0.85: 8, 0.8: 2.6, 0.7: 1.9},
    accuracy=0.758,
    prompt_templates=(
        "Answer {marker} {n} with yes or no: does the passage support the statement?",
        "{marker} {n}: is the statement above true, going by the passage alone?",
    ),
)
"""Published rates: escalates 1.9% at 0.8 and 12.5% at 0.9; 24.2% of shipped answers are wrong."""

CLASSES: Final = (FAQ, BILLING, LEGAL, BAND30, OVERCONFIDENT, OUTDATED, BOOLQ_CLAUDE3HAIKU)
"""All ready-made classes; the first one also answers prompts without a marker."""
