"""Pure decisions, standard library only: no I/O, no clock, no randomness. Time comes in as an argument."""
