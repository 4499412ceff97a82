/* RoIAlign of a pyramid on a CPU (He et al. 2017, section 3), and its gradient.

   Maps are rows of `channels` floats, so that the channels of a sampling point lie side by side: torchvision's kernel
   for CPUs takes them one by one, on one core. Coordinates follow its `aligned=True`: a cell's value lies at its middle.

   The gradient is shared among threads by channels and goes through the regions in their order, so that no two threads
   meet and results do not depend on how many there are. */

#include <stdint.h>
#include <string.h>

enum { SAMPLES = 2, CORNERS = 4 * SAMPLES * SAMPLES, MAX_SIDE = 64, STRIP = 64 };

typedef struct {
    int64_t height, width;
    float scale; /* of the image's coordinates */
} level;

/* Where a sample lies on one axis: two neighbours and how much each counts, nothing beyond the map. */
typedef struct {
    int64_t at[2];
    float share[2];
} sample;

static sample place(float x, int64_t size) {
    sample found = {{0, 0}, {0, 0}};
    if (!(x >= -1 && x <= size)) return found; /* not a number either */
    if (x < 0) x = 0;
    int64_t low = (int64_t)x;
    if (low >= size - 1) {
        low = size - 1;
        x = (float)low;
    }
    found.at[0] = low;
    found.at[1] = low + (low < size - 1);
    found.share[1] = x - low;
    found.share[0] = 1 - found.share[1];
    return found;
}

/* The samples of an axis: SAMPLES for each of `side` cells between `start` and `end`. */
static void axis(float start, float end, int side, int64_t size, sample *out) {
    float cell = (end - start) / side;
    start -= 0.5f;
    for (int i = 0; i < side * SAMPLES; i++)
        out[i] = place(start + i / SAMPLES * cell + (i % SAMPLES + 0.5f) * cell / SAMPLES, size);
}

/* Rows of the map that cell (y, x) of a region sees, and how much each counts. */
static void corners(const sample *ys, const sample *xs, int y, int x, int64_t width, int64_t *rows, float *shares) {
    for (int i = 0; i < CORNERS; i++) {
        const sample *v = ys + y * SAMPLES + i / (4 * SAMPLES), *h = xs + x * SAMPLES + i / 4 % SAMPLES;
        rows[i] = v->at[i / 2 % 2] * width + h->at[i % 2];
        shares[i] = v->share[i / 2 % 2] * h->share[i % 2] / (SAMPLES * SAMPLES);
    }
}

static void samples(const float *box, const level *on, int side, sample *ys, sample *xs) {
    axis(box[1] * on->scale, box[3] * on->scale, side, on->height, ys);
    axis(box[0] * on->scale, box[2] * on->scale, side, on->width, xs);
}

/* `maps`: of each level the address of [images, height, width, channels]; `regions` [count, 4] in the image's pixels,
   with the image and the level of each; `out` [count, side, side, channels]. */
void roi_align(const float *const *maps, const level *levels, const float *regions, const int64_t *image,
               const int64_t *on, float *out, int64_t count, int64_t channels, int side, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < count; r++) {
        const level *l = levels + on[r];
        const float *map = maps[on[r]] + image[r] * l->height * l->width * channels;
        sample ys[MAX_SIDE * SAMPLES], xs[MAX_SIDE * SAMPLES];
        samples(regions + 4 * r, l, side, ys, xs);
        for (int cell = 0; cell < side * side; cell++) {
            int64_t rows[CORNERS];
            float shares[CORNERS], *to = out + (r * side * side + cell) * channels;
            corners(ys, xs, cell / side, cell % side, l->width, rows, shares);
            for (int64_t first = 0; first < channels; first += STRIP) {
                int64_t wide = channels - first < STRIP ? channels - first : STRIP;
                float sum[STRIP] = {0};
                for (int i = 0; i < CORNERS; i++) {
                    const float *from = map + rows[i] * channels + first;
                    if (wide == STRIP) /* whole, it stays in registers */
                        for (int c = 0; c < STRIP; c++) sum[c] += shares[i] * from[c];
                    else
                        for (int64_t c = 0; c < wide; c++) sum[c] += shares[i] * from[c];
                }
                memcpy(to + first, sum, wide * sizeof *sum);
            }
        }
    }
}

/* Adds to `maps` what `grad` [count, side, side, channels] says of them. */
void roi_align_gradient(float *const *maps, const level *levels, const float *regions, const int64_t *image,
                        const int64_t *on, const float *grad, int64_t count, int64_t channels, int side, int threads) {
    int64_t strip = (channels + threads - 1) / threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t first = 0; first < channels; first += strip) {
        int64_t wide = channels - first < strip ? channels - first : strip;
        for (int64_t r = 0; r < count; r++) {
            const level *l = levels + on[r];
            float *map = maps[on[r]] + image[r] * l->height * l->width * channels + first;
            sample ys[MAX_SIDE * SAMPLES], xs[MAX_SIDE * SAMPLES];
            samples(regions + 4 * r, l, side, ys, xs);
            for (int cell = 0; cell < side * side; cell++) {
                int64_t rows[CORNERS];
                float shares[CORNERS];
                const float *from = grad + (r * side * side + cell) * channels + first;
                corners(ys, xs, cell / side, cell % side, l->width, rows, shares);
                for (int i = 0; i < CORNERS; i++) {
                    float *to = map + rows[i] * channels, share = shares[i];
                    for (int64_t c = 0; c < wide; c++) to[c] += share * from[c];
                }
            }
        }
    }
}
