"""How long Hypothesis looks: profile `ci` by default, `long` with MERGESYNC_HYPOTHESIS=long."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

QUICK = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)  # not explain, which takes minutes

settings.register_profile(
    "ci",
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    print_blob=True,
    phases=QUICK,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("ci"), max_examples=5000, stateful_step_count=60)
settings.load_profile(os.environ.get("MERGESYNC_HYPOTHESIS", "ci"))
