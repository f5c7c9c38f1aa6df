"""What users of sync engines suffer from, as scripts that run against TinyBase and mergesync alike.

`python -m tests.pains` runs all of them on both and prints what became of the data. The numbers M1 to M15 are those of
the measurements of TinyBase 10.0.1 from which mergesync's aims were drawn.
"""
