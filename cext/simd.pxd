"""The loops of the transform, compiled twice: for any machine, and for AVX2 with FMA.

Both are the same text in the compiler's own vector notation, 4 or 8 floats wide, which it
turns into SSE2, NEON or AVX2. simd_fastest chooses when asked: no ifunc and no
target_clones, which musl does not have.

The product keeps a tile of up to 6 rows by 2 vectors in registers; every factor of
the left matrix meets whole vectors. AVX2 and AArch64 spread a factor over a vector as they
load it. SSE2 would need a shuffle each time, so there left matrices are kept spread out,
`lanes` equal floats for each factor.
"""

from libc.stdint cimport int8_t, int16_t, uint8_t


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #define TILE_ROWS 6
    /* Adding it to |v| < 2**22 leaves the integer nearest to v, ties to even, in the low
       bits of the sum. */
    #define ROUNDER 12582912.0f
    #define UNROLLED _Pragma("GCC unroll 8")
    #define ALWAYS static inline __attribute__((always_inline))

    typedef struct {
        const char *name;
        Py_ssize_t lanes;
        void (*multiply)(const float *left, const float *right, Py_ssize_t right_stride,
                         float *out, Py_ssize_t out_stride, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n);
        void (*spread_f32)(const float *src, float *dst, Py_ssize_t n);
        void (*spread_i8)(const int8_t *src, float *dst, Py_ssize_t n);
        void (*spread_u8)(const uint8_t *src, float *dst, Py_ssize_t n);
        void (*quantize)(const float *src, const float *offset, int16_t *dst, Py_ssize_t n, float inv_step);
        void (*dequantize)(const int16_t *src, const float *offset, float *dst, Py_ssize_t n,
                           float step, float shrink);
        void (*round_i8)(const float *src, int8_t *dst, Py_ssize_t n);
        void (*round_u8)(const float *src, uint8_t *dst, Py_ssize_t n);
    } simd_t;

    typedef float simd_v4 __attribute__((vector_size(16), aligned(4), may_alias));
    typedef float simd_v8 __attribute__((vector_size(32), aligned(4), may_alias));

    /* The tile: out[rows, vectors] = left[rows, k] @ right[k, vectors], all constants but k. */
    #define DEFINE_TILE(TILE, VECTOR)                                                              \
    ALWAYS void TILE(const float *left, Py_ssize_t lanes, const float *right, Py_ssize_t stride,   \
                     float *out, Py_ssize_t out_stride, Py_ssize_t k, int rows, int vectors)       \
    {                                                                                              \
        const Py_ssize_t width = sizeof(VECTOR) / sizeof(float);                                   \
        VECTOR sum[TILE_ROWS][2] = {{{0}}}, r[2], l;                                               \
        Py_ssize_t i;                                                                              \
        int m, v;                                                                                  \
        for (i = 0; i < k; i++) {                                                                  \
            UNROLLED                                                                               \
            for (v = 0; v < vectors; v++)                                                          \
                r[v] = *(const VECTOR *)(right + i * stride + v * width);                          \
            UNROLLED                                                                               \
            for (m = 0; m < rows; m++) {                                                           \
                const float *factor = left + (m * k + i) * lanes;                                  \
                if (lanes == 1)                                                                    \
                    l = *factor - (VECTOR){0};          /* spread by the load */                   \
                else                                                                               \
                    l = *(const VECTOR *)factor;                                                   \
                UNROLLED                                                                           \
                for (v = 0; v < vectors; v++)                                                      \
                    sum[m][v] += l * r[v];                                                         \
            }                                                                                      \
        }                                                                                          \
        UNROLLED                                                                                   \
        for (m = 0; m < rows; m++) {                                                               \
            UNROLLED                                                                               \
            for (v = 0; v < vectors; v++)                                                          \
                *(VECTOR *)(out + m * out_stride + v * width) = sum[m][v];                         \
        }                                                                                          \
    }
    DEFINE_TILE(simd_tile4, simd_v4)
    DEFINE_TILE(simd_tile8, simd_v8)

    ALWAYS void simd_strip(int width, Py_ssize_t lanes, const float *left,
                           const float *right, Py_ssize_t stride, float *out, Py_ssize_t out_stride,
                           Py_ssize_t k, Py_ssize_t n, int rows)
    {
        Py_ssize_t j, i, at;
        int m;
        for (j = 0; j + 2 * width <= n; j += 2 * width)
            (width == 8 ? simd_tile8 : simd_tile4)(left, lanes, right + j, stride, out + j, out_stride, k, rows, 2);
        for (; j < n && n >= width; j += width) {   /* the last one overlaps what is done */
            at = j + width <= n ? j : n - width;
            (width == 8 ? simd_tile8 : simd_tile4)(left, lanes, right + at, stride, out + at, out_stride, k, rows, 1);
        }
        for (; j < n; j++)
            for (m = 0; m < rows; m++) {
                float sum = 0.0f;
                for (i = 0; i < k; i++)
                    sum += left[(m * k + i) * lanes] * right[i * stride + j];
                out[m * out_stride + j] = sum;
            }
    }

    ALWAYS void simd_multiply(int width, Py_ssize_t lanes, const float *left,
                              const float *right, Py_ssize_t stride, float *out, Py_ssize_t out_stride,
                              Py_ssize_t m, Py_ssize_t k, Py_ssize_t n)
    {
        const Py_ssize_t strips = (m + TILE_ROWS - 1) / TILE_ROWS;
        Py_ssize_t s;
        for (s = 0; s < strips; s++) {      /* 14 rows are 4, 5 and 5, not 6, 6 and 2 */
            const Py_ssize_t row = m * s / strips;
            const float *l = left + row * k * lanes;
            float *o = out + row * out_stride;
            switch (m * (s + 1) / strips - row) {
            case 1: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 1); break;
            case 2: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 2); break;
            case 3: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 3); break;
            case 4: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 4); break;
            case 5: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 5); break;
            default: simd_strip(width, lanes, l, right, stride, o, out_stride, k, n, 6);
            }
        }
    }

    ALWAYS int32_t simd_nearest(float v, float lo, float hi)
    {
        int32_t bits;
        v = v == v ? v : 0.0f;              /* NaN */
        v = v > lo ? v : lo;
        v = v < hi ? v : hi;
        v += ROUNDER;
        memcpy(&bits, &v, sizeof bits);
        return bits - 0x4B400000;           /* the bits of ROUNDER itself */
    }

    /* One set of loops, compiled for TARGET. */
    #define SPREAD(LANES)                                                                          \
        for (Py_ssize_t i = 0; i < n; i++)                                                         \
            for (Py_ssize_t j = 0; j < LANES; j++)                                                 \
                dst[i * LANES + j] = src[i];
    #define DEFINE_SIMD(NAME, TARGET, WIDTH, LANES)                                                \
    TARGET static void NAME##_multiply(                                                            \
        const float *left, const float *right, Py_ssize_t stride, float *out,                      \
        Py_ssize_t out_stride, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n)                           \
    { simd_multiply(WIDTH, LANES, left, right, stride, out, out_stride, m, k, n); }                \
    TARGET static void NAME##_spread_f32(const float *src, float *dst, Py_ssize_t n)               \
    { SPREAD(LANES) }                                                                              \
    TARGET static void NAME##_spread_i8(const int8_t *src, float *dst, Py_ssize_t n)               \
    { SPREAD(LANES) }                                                                              \
    TARGET static void NAME##_spread_u8(const uint8_t *src, float *dst, Py_ssize_t n)              \
    { SPREAD(LANES) }                                                                              \
    TARGET static void NAME##_quantize(const float *src, const float *offset, int16_t *dst,        \
                                       Py_ssize_t n, float inv_step)                               \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < n; i++)                                                         \
            dst[i] = (int16_t)simd_nearest((src[i] - offset[i]) * inv_step, -32767.0f, 32767.0f);  \
    }                                                                                              \
    TARGET static void NAME##_dequantize(const int16_t *src, const float *offset, float *dst,      \
                                         Py_ssize_t n, float step, float shrink)                   \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < n; i++) {                                                       \
            float away = (float)((src[i] > 0) - (src[i] < 0));                                     \
            dst[i] = ((float)src[i] - away * shrink) * step + offset[i];                           \
        }                                                                                          \
    }                                                                                              \
    TARGET static void NAME##_round_i8(const float *src, int8_t *dst, Py_ssize_t n)                \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < n; i++)                                                         \
            dst[i] = (int8_t)simd_nearest(src[i], -128.0f, 127.0f);                                \
    }                                                                                              \
    TARGET static void NAME##_round_u8(const float *src, uint8_t *dst, Py_ssize_t n)               \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < n; i++)                                                         \
            dst[i] = (uint8_t)simd_nearest(src[i], 0.0f, 255.0f);                                  \
    }                                                                                              \
    static const simd_t simd_##NAME = {                                                            \
        #NAME, LANES, NAME##_multiply, NAME##_spread_f32, NAME##_spread_i8, NAME##_spread_u8,      \
        NAME##_quantize, NAME##_dequantize, NAME##_round_i8, NAME##_round_u8                       \
    };

    #if defined(__SSE2__)
    DEFINE_SIMD(baseline, , 4, 4)
    #else
    DEFINE_SIMD(baseline, , 4, 1)
    #endif

    #if defined(__x86_64__) || defined(__i386__)
    DEFINE_SIMD(avx2, __attribute__((target("avx2,fma"))), 8, 1)

    static const simd_t *simd_fastest(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &simd_avx2 : &simd_baseline;
    }
    #else
    static const simd_t *simd_fastest(void) { return &simd_baseline; }
    #endif
    """
    ctypedef struct simd_t:
        const char* name
        Py_ssize_t lanes
        void (*multiply)(const float* left, const float* right, Py_ssize_t right_stride, float* out,
                         Py_ssize_t out_stride, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n) noexcept nogil
        void (*spread_f32)(const float* src, float* dst, Py_ssize_t n) noexcept nogil
        void (*spread_i8)(const int8_t* src, float* dst, Py_ssize_t n) noexcept nogil
        void (*spread_u8)(const uint8_t* src, float* dst, Py_ssize_t n) noexcept nogil
        void (*quantize)(const float* src, const float* offset, int16_t* dst, Py_ssize_t n, float inv_step) noexcept nogil
        void (*dequantize)(const int16_t* src, const float* offset, float* dst, Py_ssize_t n, float step,
                           float shrink) noexcept nogil
        void (*round_i8)(const float* src, int8_t* dst, Py_ssize_t n) noexcept nogil
        void (*round_u8)(const float* src, uint8_t* dst, Py_ssize_t n) noexcept nogil

    int nearest "simd_nearest"(float v, float lo, float hi) noexcept nogil
    const simd_t simd_baseline
    const simd_t* simd_fastest() noexcept nogil
    int TILE_ROWS
