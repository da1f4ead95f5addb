"""What the faces of the calibrated codec refuse, each with the value found and the one wanted."""

from libc.stdint cimport int16_t


cdef inline int check_index(Py_ssize_t index) except -1:
    if not -32768 <= index <= 32767:
        raise ValueError(f"index is {index}, must be -32768..32767")
    return 0


cdef inline int check_size(name, Py_ssize_t found, Py_ssize_t wanted) except -1:
    if found != wanted:
        raise ValueError(f"{name} holds {found} values, must hold {wanted}")
    return 0


cdef inline int check_symbols(const int16_t[::1] symbols) except -1:
    """-32768 has no opposite, and no code."""
    cdef Py_ssize_t i
    cdef int16_t least = 0
    for i in range(symbols.shape[0]):
        least = min(least, symbols[i])
    if least == -32768:
        raise ValueError("symbol -32768 found, must be -32767..32767")
    return 0


cdef inline int check_base(const int16_t[::1] base) except -1:
    """Thirds of fine symbols, so that none of their refinements leaves the range."""
    cdef Py_ssize_t i
    for i in range(base.shape[0]):
        if not -10922 <= base[i] <= 10922:
            raise ValueError(f"base symbol {base[i]} found, must be -10922..10922")
    return 0
