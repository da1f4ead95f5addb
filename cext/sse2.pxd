"""The two loops that baseline x86-64 needs spelled out.

Each does whole groups from the front and returns how many values that was; where
there is no SSE2 it returns 0. The portable loop at the call site does the rest, so
leaving this file out changes no result.

Why at all (112x112x16, gcc 12 -O3): narrowing 32-bit lanes to bytes costs the
compiler fourteen shuffles where three saturating packs do, 47 us against 32 us for
the quantizer; it knows no way to the sign mask, 13 us against 8 us for single bits.
AArch64 narrows in one instruction and gets the portable loops.
"""

from libc.stdint cimport uint8_t


cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #include <string.h>

    static inline Py_ssize_t sse2_quantize(const float *src, uint8_t *dst, Py_ssize_t n,
                                           float lo, float inv_step, float top)
    {
        const __m128 los = _mm_set1_ps(lo), inv_steps = _mm_set1_ps(inv_step);
        const __m128 tops = _mm_set1_ps(top), zeros = _mm_setzero_ps();
        __m128i q[4];
        Py_ssize_t i;
        int k;
        for (i = 0; i + 16 <= n; i += 16) {
            for (k = 0; k < 4; k++) {
                __m128 v = _mm_mul_ps(_mm_sub_ps(_mm_loadu_ps(src + i + 4 * k), los), inv_steps);
                v = _mm_min_ps(_mm_max_ps(v, zeros), tops);     /* max gives its second for NaN */
                q[k] = _mm_cvtps_epi32(v);      /* rounds half to even */
            }
            _mm_storeu_si128((__m128i *)(dst + i),
                             _mm_packus_epi16(_mm_packs_epi32(q[0], q[1]), _mm_packs_epi32(q[2], q[3])));
        }
        return i;
    }

    static inline Py_ssize_t sse2_pack_ones(const uint8_t *src, uint8_t *dst, Py_ssize_t n)
    {
        Py_ssize_t i;
        int k;
        for (i = 0; i + 64 <= n; i += 64) {
            uint64_t ones = 0;
            for (k = 0; k < 4; k++) {   /* bit 0 of each byte to its sign, sixteen signs to bits */
                __m128i v = _mm_loadu_si128((const __m128i *)(src + i + 16 * k));
                ones |= (uint64_t)_mm_movemask_epi8(_mm_slli_epi16(v, 7)) << (16 * k);
            }
            memcpy(dst + i / 8, &ones, 8);
        }
        return i;
    }
    #else
    static inline Py_ssize_t sse2_quantize(const float *src, uint8_t *dst, Py_ssize_t n,
                                           float lo, float inv_step, float top)
    {
        (void)src; (void)dst; (void)n; (void)lo; (void)inv_step; (void)top;
        return 0;
    }

    static inline Py_ssize_t sse2_pack_ones(const uint8_t *src, uint8_t *dst, Py_ssize_t n)
    {
        (void)src; (void)dst; (void)n;
        return 0;
    }
    #endif
    """
    Py_ssize_t sse2_quantize(const float* src, uint8_t* dst, Py_ssize_t n,
                             float lo, float inv_step, float top) noexcept nogil
    Py_ssize_t sse2_pack_ones(const uint8_t* src, uint8_t* dst, Py_ssize_t n) noexcept nogil
