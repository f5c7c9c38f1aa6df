"""Stock TinyBase on Node, against mergesync and as the source of golden vectors."""
