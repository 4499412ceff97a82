/* The depthwise 7x7 convolution on a CPU, and its weight gradient.

   Positions are rows of `channels` values. A table says what a tile of outputs sees: for each of height x width
   positions, the 3 around the tile included, its row counted from 1, or 0 where there is nothing or it is hidden. The
   same table serves every image, `image_rows` rows apart; visible patches, which lie elsewhere in every image, are one
   image with a table of all.

   BLOCK channels of a tile go through at a time: what they see is gathered into memory that stays in the first cache,
   as floats, and a row of outputs stays in registers. Where a tile is a single position or 2x2, most of what it could
   see is hidden or beyond the map; there one seen position after the other is added to outputs that stay in registers.

   Every output is computed by one thread in a fixed order, and so is each of the `groups` parts of the weight gradient:
   results do not depend on the number of threads. */

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

enum { KERNEL = 7, PADDING = 3, BLOCK = 32, VECTORS = BLOCK / LANES, MAX_SIDE = 8, MAX_SEEN = MAX_SIDE + KERNEL - 1 };

#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))
#define UNROLL _Pragma("GCC unroll 16")
#define EACH_VECTOR(v) for (int v = 0; v * LANES < channels; v++)

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

typedef struct {
    const void *x;
    const int32_t *table;
    int64_t images, image_rows, tiles, channels;
    int height, width; /* of what a tile sees */
    int bf16;
} problem;

/* One tile and block of channels. */
typedef struct {
    const int32_t *table;
    int64_t row, channel; /* the first of the image, the first of the block */
    int channels;
} place;

INLINE place find(const problem *p, int64_t tile, int64_t block) {
    place at = {p->table + tile % p->tiles * p->height * p->width, tile / p->tiles * p->image_rows, block * BLOCK, BLOCK};
    if (p->channels - at.channel < BLOCK) at.channels = p->channels - at.channel;
    return at;
}

/* Up to LANES channels of a row, its number counted from 1; zeros beyond, and for row 0. */
INLINE floats load(const problem *p, const void *from, place at, int32_t row, int v) {
    floats value = {0};
    if (!row) return value;
    int64_t i = (at.row + row - 1) * p->channels + at.channel + v * LANES;
    int n = at.channels - v * LANES < LANES ? at.channels - v * LANES : LANES;
    if (p->bf16) {
        halves h = {0};
        if (n == LANES) h = *(const halves *)((const uint16_t *)from + i);
        else memcpy(&h, (const uint16_t *)from + i, 2 * n);
        return (floats)(__builtin_convertvector(h, words) << 16);
    }
    if (n == LANES) return *(const floats *)((const float *)from + i);
    memcpy(&value, (const float *)from + i, 4 * n);
    return value;
}

INLINE void store(const problem *p, void *to, place at, int32_t row, int v, floats value) {
    int64_t i = (at.row + row - 1) * p->channels + at.channel + v * LANES;
    int n = at.channels - v * LANES < LANES ? at.channels - v * LANES : LANES;
    if (p->bf16) { /* to nearest, ties to even */
        words w = (words)value, nan = (words)(value != value);
        w = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
        halves h = __builtin_convertvector((w & ~nan) | (nan & 0x7fc0), halves);
        memcpy((uint16_t *)to + i, &h, 2 * n);
    } else {
        memcpy((float *)to + i, &value, 4 * n);
    }
}

/* What the tile sees, [VECTORS][height][width]; and which of its rows have anything. */
INLINE void gather(const problem *p, place at, floats *seen, char *any) {
    int area = p->height * p->width, channels = at.channels;
    for (int y = 0; y < p->height; y++) {
        int32_t found = 0;
        for (int i = y * p->width; i < (y + 1) * p->width; i++) {
            found |= at.table[i];
            EACH_VECTOR(v) seen[v * area + i] = load(p, p->x, at, at.table[i], v);
        }
        any[y] = found != 0;
    }
}

/* Outputs [height][width] of a tile `side` wide, with `weights` [7][7]. */
INLINE void convolve(const problem *p, const floats *seen, const char *any, const floats *weights, floats bias, int side,
                     floats *out) {
    for (int y = 0; y < p->height - KERNEL + 1; y++) {
        floats sums[MAX_SIDE];
        UNROLL for (int x = 0; x < side; x++) sums[x] = bias;
        for (int dy = 0; dy < KERNEL; dy++) {
            if (!any[y + dy]) continue;
            const floats *row = seen + (y + dy) * p->width;
            UNROLL for (int dx = 0; dx < KERNEL; dx++) {
                floats weight = weights[dy * KERNEL + dx];
                UNROLL for (int x = 0; x < side; x++) sums[x] += weight * row[x + dx];
            }
        }
        UNROLL for (int x = 0; x < side; x++) out[y * side + x] = sums[x];
    }
}

/* Weight gradients [7][7], added to, of a tile with output gradients `grad` [height][width]. */
INLINE void correlate(const problem *p, const floats *seen, const char *any, const floats *grad, int side, floats *out) {
    for (int dy = 0; dy < KERNEL; dy++) {
        floats sums[KERNEL];
        UNROLL for (int dx = 0; dx < KERNEL; dx++) sums[dx] = out[dy * KERNEL + dx];
        for (int y = 0; y < p->height - KERNEL + 1; y++) {
            if (!any[y + dy]) continue;
            const floats *row = seen + (y + dy) * p->width, *g = grad + y * side;
            UNROLL for (int x = 0; x < side; x++)
                UNROLL for (int dx = 0; dx < KERNEL; dx++) sums[dx] += g[x] * row[x + dx];
        }
        UNROLL for (int dx = 0; dx < KERNEL; dx++) out[dy * KERNEL + dx] = sums[dx];
    }
}

/* The same two for tiles of 1 or 2 positions a side. Weights have a ring of `side` - 1 zeros around them, so that every
   position seen meets every output; so a value that is not finite reaches one position further than the kernel does. */
INLINE int ringed(int side) { return KERNEL + 2 * (side - 1); }

INLINE void convolve_small(const problem *p, place at, int v, const floats *weights, floats bias, int side, floats *out) {
    floats sums[4];
    UNROLL for (int i = 0; i < side * side; i++) sums[i] = bias;
    for (int i = 0; i < p->height * p->width; i++) {
        if (!at.table[i]) continue;
        floats value = load(p, p->x, at, at.table[i], v);
        const floats *corner = weights + (i / p->width + side - 1) * ringed(side) + i % p->width + side - 1;
        UNROLL for (int o = 0; o < side * side; o++) sums[o] += value * corner[-(o / side) * ringed(side) - o % side];
    }
    UNROLL for (int i = 0; i < side * side; i++) out[i] = sums[i];
}

INLINE void correlate_small(const problem *p, place at, int v, const floats *grad, int side, floats *out) {
    for (int i = 0; i < p->height * p->width; i++) {
        if (!at.table[i]) continue;
        floats value = load(p, p->x, at, at.table[i], v);
        floats *corner = out + (i / p->width + side - 1) * ringed(side) + i % p->width + side - 1;
        UNROLL for (int o = 0; o < side * side; o++) corner[-(o / side) * ringed(side) - o % side] += value * grad[o];
    }
}

/* Calls with the width of a tile as a constant, or registers could not hold its row. */
#define CASE(side, call) case side: call(side); break;
#define FOR_WIDTH(side, call)                                                    \
    switch (side) {                                                              \
        CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call)                  \
        CASE(5, call) CASE(6, call) CASE(7, call) CASE(8, call)                  \
    }

INLINE int is_small(const problem *p) { return p->height == p->width && p->width <= KERNEL + 1; }

/* `weights` [channels, 49] and `bias`, or 0; `packed` is scratch for 81 taps of whole blocks. */
void depthwise(const void *x, const int32_t *table, const float *weights, const float *bias, void *out, float *packed,
               int64_t images, int64_t image_rows, int64_t tiles, int64_t channel_count, int height, int width, int bf16,
               int threads) {
    problem p = {x, table, images, image_rows, tiles, channel_count, height, width, bf16};
    int64_t blocks = (channel_count + BLOCK - 1) / BLOCK;
    int side = width - KERNEL + 1, area = (height - KERNEL + 1) * side, small = is_small(&p);
    int ring = small ? ringed(side) : KERNEL, taps = ring * ring, shift = small ? side - 1 : 0;
    memset(packed, 0, sizeof(float) * taps * blocks * BLOCK);
    for (int64_t c = 0; c < channel_count; c++)
        for (int tap = 0; tap < KERNEL * KERNEL; tap++) {
            int at = (tap / KERNEL + shift) * ring + tap % KERNEL + shift;
            packed[(c / LANES * taps + at) * LANES + c % LANES] = weights[c * KERNEL * KERNEL + tap];
        }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t item = 0; item < images * tiles * blocks; item++) {
        place at = find(&p, item / blocks, item % blocks);
        int channels = at.channels;
        floats result[VECTORS * MAX_SIDE * MAX_SIDE] ALIGNED, seen[VECTORS * MAX_SEEN * MAX_SEEN] ALIGNED;
        char any[MAX_SEEN];
        if (!small) gather(&p, at, seen, any);
        EACH_VECTOR(v) {
            const floats *w = (const floats *)packed + (at.channel / LANES + v) * taps;
            floats b = {0}, *to = result + v * area;
            for (int i = 0; bias && i < LANES && v * LANES + i < channels; i++) b[i] = bias[at.channel + v * LANES + i];
            if (small && side == 1) convolve_small(&p, at, v, w, b, 1, to);
            else if (small) convolve_small(&p, at, v, w, b, 2, to);
            else {
#define CALL(side) convolve(&p, seen + v * height * width, any, w, b, side, to)
                FOR_WIDTH(side, CALL)
#undef CALL
            }
        }
        for (int i = 0; i < area; i++) {
            int32_t row = at.table[(i / side + PADDING) * width + i % side + PADDING];
            if (row) EACH_VECTOR(v) store(&p, out, at, row, v, result[v * area + i]);
        }
    }
}

/* `out` [groups, blocks, BLOCK / LANES, 49, LANES]: the tiles' sums in so many parts. */
void depthwise_weight_gradient(const void *x, const void *grad, const int32_t *table, float *out, int64_t groups,
                               int64_t images, int64_t image_rows, int64_t tiles, int64_t channel_count, int height,
                               int width, int bf16, int threads) {
    problem p = {x, table, images, image_rows, tiles, channel_count, height, width, bf16};
    int64_t blocks = (channel_count + BLOCK - 1) / BLOCK;
    int side = width - KERNEL + 1, area = (height - KERNEL + 1) * side, small = is_small(&p);
    int ring = small ? ringed(side) : KERNEL, taps = ring * ring, shift = small ? side - 1 : 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t item = 0; item < groups * blocks; item++) {
        int64_t group = item / blocks;
        floats sums[VECTORS * 81] ALIGNED, g[VECTORS * MAX_SIDE * MAX_SIDE] ALIGNED;
        floats seen[VECTORS * MAX_SEEN * MAX_SEEN] ALIGNED;
        char any[MAX_SEEN];
        memset(sums, 0, sizeof sums);
        for (int64_t tile = images * tiles * group / groups; tile < images * tiles * (group + 1) / groups; tile++) {
            place at = find(&p, tile, item % blocks);
            int channels = at.channels;
            for (int i = 0; i < area; i++) {
                int32_t row = at.table[(i / side + PADDING) * width + i % side + PADDING];
                EACH_VECTOR(v) g[v * area + i] = load(&p, grad, at, row, v);
            }
            if (!small) gather(&p, at, seen, any);
            EACH_VECTOR(v) {
                floats *to = sums + v * taps;
                if (small && side == 1) correlate_small(&p, at, v, g + v * area, 1, to);
                else if (small) correlate_small(&p, at, v, g + v * area, 2, to);
                else {
#define CALL(side) correlate(&p, seen + v * height * width, any, g + v * area, side, to)
                    FOR_WIDTH(side, CALL)
#undef CALL
                }
            }
        }
        for (int i = 0; i < VECTORS * KERNEL * KERNEL; i++) {
            int v = i / (KERNEL * KERNEL), tap = i % (KERNEL * KERNEL);
            floats sum = sums[v * taps + (tap / KERNEL + shift) * ring + tap % KERNEL + shift];
            memcpy(out + (item * VECTORS * KERNEL * KERNEL + i) * LANES, &sum, sizeof sum);
        }
    }
}

int lanes(void) { return LANES; }
