"""Keys and what is done with them: sealed messages and signatures.

The only importer of `cryptography`, which is an extra: what needs it is imported where it is
used, and says what to install where it is missing.
"""
