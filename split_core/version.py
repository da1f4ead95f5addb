"""The version of everything here: programs, wire, bundle writers."""

VERSION = "0.1.0"
