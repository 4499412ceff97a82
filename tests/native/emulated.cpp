// depthwise.cu as C++: every thread of a block is one of the machine's, so that what a GPU computes can be tested without.
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#define EMULATED
#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Place { unsigned x, y, z; };
static thread_local Place threadIdx;
static Place blockIdx, gridDim, blockDim;
static std::barrier<> *together;
static void __syncthreads() { together->arrive_and_wait(); }

template <int type> float emulated_value(unsigned short x) {
    if constexpr (type == 1) {
        unsigned bits = (unsigned)x << 16;
        float y;
        memcpy(&y, &bits, 4);
        return y;
    } else {
        _Float16 y;
        memcpy(&y, &x, 2);
        return y;
    }
}

template <int type> unsigned short emulated_rounded(float x) {
    unsigned short y;
    if constexpr (type == 1) {
        unsigned bits;
        memcpy(&bits, &x, 4);
        y = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    } else {
        _Float16 half = x;
        memcpy(&y, &half, 2);
    }
    return y;
}

#include "depthwise.cu"

template <typename Kernel> static void run(const int *grid, int wide, int tall, Kernel kernel) {
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], 1}, blockDim = {(unsigned)wide, (unsigned)tall, 1};
    for (unsigned y = 0; y < gridDim.y; y++)
        for (unsigned x = 0; x < gridDim.x; x++) {
            blockIdx = {x, y, 0};
            std::barrier<> barrier(wide * tall);
            together = &barrier;
            std::vector<std::jthread> threads;
            for (int t = 0; t < wide * tall; t++)
                threads.emplace_back([=] {
                    threadIdx = {(unsigned)(t % wide), (unsigned)(t / wide), 0};
                    kernel();
                });
        }
}

extern "C" void run_convolve(const int *grid, const T *x, const float *w, const float *b, T *out, const int *s) {
    run(grid, THREADS, 1, [=] { convolve(x, w, b, out, s[0], s[1], s[2], s[3], s[4], s[5]); });
}

extern "C" void run_weight_gradient(const int *grid, const T *x, const T *grad, float *sums, const int *s) {
    run(grid, 32, PARTS, [=] { weight_gradient(x, grad, sums, s[0], s[1], s[2], s[3], s[4], s[5]); });
}
