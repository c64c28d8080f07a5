"""The ``projectk`` command: one file per verb in ``verbs/``, the supervisor of ``projectk up``, the bots."""
