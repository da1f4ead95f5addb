"""Settings: what the keys are, the layers they come from, and all that is wrong with them.

Defaults, then a TOML file, then the files of `conf.d` beside it, then the environment, then flags.
Each later one wins key by key; lists are replaced whole.
"""
