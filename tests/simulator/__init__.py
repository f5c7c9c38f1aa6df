"""A deterministic simulator: the real store, exchange, hub, server life cycle and persisters, in virtual time.

One thread, one seed, one trace.

* `world` holds the parts: a `loop` in virtual time, a `network`, a `disk` and a `database` that fail, `clock`s that are
  wrong, `hooks` that raise or hang, a `hostile` peer; `storage` watches what is said to be stored.
* `schedule` draws what happens to them; `oracles` say what must hold; `running` runs one.
* `rooms` are schedules with an `application` that decides who may do what: its `requests` are what clients ask for, its
  `lifetimes` the paths that it makes and removes, and `tokens` tell of each cell whether it may be where it is.
* `mutants` are bugs that are planted by `mutation`: the oracles must find each.
* `shrink` leaves out steps of a schedule that fails.

`python -m tests.simulator --help` says how to run it; a failing seed can be run, and shrunk, alone.
"""
