"""How much a server holds; run by hand, since the figures are those of a machine."""
