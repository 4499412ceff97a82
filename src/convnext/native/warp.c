/* Bicubic affine warps of images of bytes, to the very pixels that Pillow's transform gives.

   Pillow calls a function for each pixel and band, in which each of 16 neighbours is found and converted. Here the four
   bands of a pixel go through together, from a copy of the image that is repeated beyond its edges; a pixel that lies
   exactly on a row or a column, as all do in a shear or a shift, needs no more than four neighbours. Sums are in double
   and in Pillow's order, for the bytes to be the same. */

#include <stdint.h>
#include <string.h>

#pragma GCC optimize("fp-contract=off") /* a fused product would round otherwise */

#define INLINE static inline __attribute__((always_inline))

enum { BANDS = 4, MARGIN = 2 };

typedef float floats __attribute__((vector_size(4 * BANDS)));
typedef int32_t words __attribute__((vector_size(4 * BANDS)));
typedef double values __attribute__((vector_size(8 * BANDS)));

INLINE values load(const float *at) {
    floats band;
    memcpy(&band, at, sizeof band);
    return __builtin_convertvector(band, values);
}

INLINE values cubic(values a, values b, values c, values d, double at) {
    values p2 = c - a, p3 = 2 * (a - b) + c - d, p4 = b - a - c + d;
    return b + at * (p2 + at * (p3 + at * p4));
}

INLINE values row(const float *left, double at) {
    if (at == 0) return load(left + BANDS);
    return cubic(load(left), load(left + BANDS), load(left + 2 * BANDS), load(left + 3 * BANDS), at);
}

static inline int64_t whole(double x) {
    int64_t below = (int64_t)x;
    return below - (below > x);
}

/* Repeats the edges of `in` ([height, width, channels]) in `padded` ([height + 4, width + 4, BANDS]). */
INLINE void pad(const uint8_t *in, float *padded, int64_t height, int64_t width, const int channels) {
    int64_t wide = width + 2 * MARGIN, line = wide * BANDS;
    for (int64_t y = 0; y < height; y++) {
        float *to = padded + (y + MARGIN) * line;
        for (int64_t x = 0; x < width; x++, in += channels)
            for (int band = 0; band < BANDS; band++) to[(x + MARGIN) * BANDS + band] = band < channels ? in[band] : 0;
        for (int64_t x = 0; x < MARGIN; x++) {
            memcpy(to + x * BANDS, to + MARGIN * BANDS, sizeof(floats));
            memcpy(to + (width + MARGIN + x) * BANDS, to + (width + MARGIN - 1) * BANDS, sizeof(floats));
        }
    }
    for (int64_t y = 0; y < MARGIN; y++) {
        memcpy(padded + y * line, padded + MARGIN * line, line * sizeof *padded);
        memcpy(padded + (height + MARGIN + y) * line, padded + (height + MARGIN - 1) * line, line * sizeof *padded);
    }
}

INLINE void warp_bands(const uint8_t *in, uint8_t *out, float *padded, const double *matrix, const uint8_t *fill,
                       int64_t height, int64_t width, const int channels) {
    const int64_t line = (width + 2 * MARGIN) * BANDS;
    pad(in, padded, height, width, channels);
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++, out += channels) {
            double u = matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2];
            double v = matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5];
            if (!(u >= 0 && u < width && v >= 0 && v < height)) { /* nor where they are no numbers */
                memcpy(out, fill, channels);
                continue;
            }
            u -= 0.5, v -= 0.5;
            int64_t left = whole(u), top = whole(v);
            double right = u - left, down = v - top;
            const float *at = padded + (top - 1 + MARGIN) * line + (left - 1 + MARGIN) * BANDS;
            values sum = row(at + line, right);
            if (down != 0)
                sum = cubic(row(at, right), sum, row(at + 2 * line, right), row(at + 3 * line, right), down);
            words level = __builtin_convertvector(sum, words);
            level &= level > 0; /* a comparison is all ones where it holds */
            level = (level & (level < 255)) | ((level >= 255) & 255);
            for (int band = 0; band < channels; band++) out[band] = level[band];
        }
    }
}

/* Pixel (x, y) of `out` is what lies at matrix * (x, y, 1) of `in`, or `fill` beyond it; both are
   [height, width, channels], of 1 or 3 channels. `padded` is scratch memory of [height + 4, width + 4, BANDS]. */
void warp(const uint8_t *in, uint8_t *out, float *padded, const double *matrix, const uint8_t *fill, int64_t height,
          int64_t width, int64_t channels) {
    if (channels == 3) warp_bands(in, out, padded, matrix, fill, height, width, 3);
    else warp_bands(in, out, padded, matrix, fill, height, width, 1);
}
