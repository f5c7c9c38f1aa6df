"""A deterministic simulator: the real store, exchange, hub, server life cycle and persisters, in virtual time.

One thread, one seed, one trace. `world` holds the parts, `schedule` draws what happens to them, `oracles` say what must
hold. `python -m tests.simulator --seeds 0:2000` runs schedules; a failing seed prints how to run it alone.
"""
