// The depthwise 7x7 convolution of whole maps on a GPU, zero padding 3, and its weight gradient.
//
// Maps are [N, H, W, C] without gaps. A thread has one channel and a strip of 7 columns and walks down the rows, with
// the 49 weights and 7 unfinished output rows in registers: an input is read once for each strip that sees it, twice at
// most, where a kernel that computes an output at a time would read it 49 times. Rows move on through the registers, by
// a sum's first product where there is one, so that the loop over rows needs no unrolling: seven rows of unrolled code
// outgrow the caches for instructions, and were measured to take twice the time (docs/log.md).
//
// Compiled for each CHANNELS, so that neighbours lie at distances known in advance, and TYPE: 0 float, 1 bfloat16, 2 half.
// Sums are in fp32, in an order that depends on shapes alone.

#define STRIP 7
#define THREADS 128
#ifndef RESIDENT
#define RESIDENT 3  // blocks that a multiprocessor's registers are to hold
#endif
#define PARTS 4  // parts of the images that a block of the weight gradient sums up

#if TYPE == 0
typedef float T;
#else
typedef unsigned short T;
#endif

__device__ __forceinline__ float value(T x) {
#if TYPE == 0
    return x;
#elif defined(EMULATED)
    return emulated_value<TYPE>(x);
#elif TYPE == 1
    return __uint_as_float((unsigned)x << 16);
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
#endif
}

__device__ __forceinline__ T rounded(float x) {
#if TYPE == 0
    return x;
#elif defined(EMULATED)
    return emulated_rounded<TYPE>(x);
#elif TYPE == 1
    T y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#else
    T y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#endif
}

// `count` values of row `y` from column `x` on, zero outside the map; `map` is the channel's first element.
template <int count>
__device__ __forceinline__ void read_row(float (&values)[count], const T *map, int y, int x, int width) {
    const T *row = map + (long long)(y * width + x) * CHANNELS;
#pragma unroll
    for (int j = 0; j < count; j++) values[j] = (unsigned)(x + j) < (unsigned)width ? value(row[j * CHANNELS]) : 0.f;
}

// The columns of a strip that are on the map, into row `y`.
__device__ __forceinline__ void write_row(T *map, const float (&values)[STRIP], int y, int x, int width) {
    T *row = map + (long long)(y * width + x) * CHANNELS;
#pragma unroll
    for (int j = 0; j < STRIP; j++)
        if (x + j < width) row[j * CHANNELS] = rounded(values[j]);
}

// The convolution; with the weights turned by half a turn and no bias, the input's gradient.
//
// weight: [49, C]. Threads are numbered over images, chunks of `rows` rows, strips and channels, the last the fastest.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolve(const T *x, const float *weight, const float *bias, T *out,
         int images, int height, int width, int strips, int chunks, int rows) {
    long long number = (long long)blockIdx.x * THREADS + threadIdx.x;
    int c = number % CHANNELS;
    number /= CHANNELS;
    int strip = number % strips;
    number /= strips;
    int chunk = number % chunks;
    long long image = number / chunks;
    if (image >= images) return;

    float w[7][7], total[7][STRIP], start = bias[c];  // total[i] is of the output row 3 - i above the input row
#pragma unroll
    for (int i = 0; i < 7; i++) {
#pragma unroll
        for (int j = 0; j < 7; j++) w[i][j] = weight[(i * 7 + j) * CHANNELS + c];
#pragma unroll
        for (int j = 0; j < STRIP; j++) total[i][j] = start;
    }
    x += image * height * width * CHANNELS + c;
    out += image * height * width * CHANNELS + c;
    int first = chunk * rows, last = first + rows < height ? first + rows : height, left = strip * STRIP;
    int from = first - 3 > 0 ? first - 3 : 0, to = last + 3 < height ? last + 3 : height;
#pragma unroll 1
    for (int y = from; y < to; y++) {
        float values[STRIP + 6];
        read_row(values, x, y, left - 3, width);
#pragma unroll
        for (int i = 0; i < 7; i++) {
#pragma unroll
            for (int j = 0; j < STRIP; j++) {
                float sum = i < 6 ? total[i + 1][j] : start;
#pragma unroll
                for (int k = 0; k < 7; k++) sum += w[6 - i][k] * values[j + k];
                total[i][j] = sum;
            }
        }
        if (y - 3 >= first) write_row(out, total[0], y - 3, left, width);  // no later row adds to it
    }
#pragma unroll
    for (int i = 1; i < 4; i++)  // where the map ended, rows wait that saw all there is
        if (to - 4 + i >= first && to - 4 + i < last) write_row(out, total[i], to - 4 + i, left, width);
}

// The gradients of weights and bias, summed over parts of the images: [gridDim.y * strips, 50, C], the bias last.
//
// A block is 32 strips and channels by PARTS; chunks of `rows` rows are dealt to gridDim.y * PARTS parts in turn.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
weight_gradient(const T *x, const T *grad, float *sums,
                int images, int height, int width, int strips, int chunks, int rows) {
    __shared__ float others[PARTS - 1][50][32];
    int number = blockIdx.x * 32 + threadIdx.x, part = threadIdx.y;
    int c = number % CHANNELS, strip = number / CHANNELS;
    bool there = strip < strips;
    float total[7][7] = {}, total_bias = 0;
    if (there) {
        int left = strip * STRIP;
        for (int item = blockIdx.y * PARTS + part; item < images * chunks; item += gridDim.y * PARTS) {
            long long offset = (long long)(item / chunks) * height * width * CHANNELS + c;
            const T *inputs = x + offset, *grads = grad + offset;
            int first = item % chunks * rows, last = first + rows < height ? first + rows : height;
            float ring[7][STRIP] = {};  // ring[i] is the row 3 - i above the input row, zero outside the map
#pragma unroll
            for (int i = 1; i < 7; i++)
                if (first + i - 4 >= 0 && first + i - 4 < height) read_row(ring[i], grads, first + i - 4, left, width);
#pragma unroll 1
            for (int y = first; y < last; y++) {
#pragma unroll
                for (int i = 0; i < 6; i++) {
#pragma unroll
                    for (int j = 0; j < STRIP; j++) ring[i][j] = ring[i + 1][j];
                }
                float values[STRIP + 6];
                read_row(values, inputs, y, left - 3, width);
#pragma unroll
                for (int j = 0; j < STRIP; j++) ring[6][j] = 0;
                if (y + 3 < height) read_row(ring[6], grads, y + 3, left, width);
#pragma unroll
                for (int i = 0; i < 7; i++) {  // a row above saw this one through a lower row of the weights
#pragma unroll
                    for (int k = 0; k < 7; k++) {
#pragma unroll
                        for (int j = 0; j < STRIP; j++) total[6 - i][k] += values[j + k] * ring[i][j];
                    }
                }
#pragma unroll
                for (int j = 0; j < STRIP; j++) total_bias += ring[3][j];
            }
        }
        if (part) {
#pragma unroll
            for (int i = 0; i < 49; i++) others[part - 1][i][threadIdx.x] = total[i / 7][i % 7];
            others[part - 1][49][threadIdx.x] = total_bias;
        }
    }
    __syncthreads();
    if (there && !part) {
        sums += ((long long)blockIdx.y * strips + strip) * 50 * CHANNELS + c;
#pragma unroll
        for (int i = 0; i < 50; i++) {
            float sum = i < 49 ? total[i / 7][i % 7] : total_bias;
            for (int other = 0; other < PARTS - 1; other++) sum += others[other][i][threadIdx.x];
            sums[i * CHANNELS] = sum;
        }
    }
}
