// Passes over blocks of rows of a rectified linear unit with batch-norm behind it; see
// relu_batch_norm.py. Rows are adjacent but for those of a bypass. Sums are added to.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "native.h"
#include "normalization/relu_batch_norm.h"

namespace {

// Calls run(first, end, sums) for chunks of rows, and adds up their `count` sums in order.
template <class Run>
void over_rows(int64_t rows, int64_t threads, int64_t count, double* sums, Run run) {
    const int64_t chunks = (rows + kChunk - 1) / kChunk;
    std::vector<double> parts(chunks * count, 0.0);
    in_parallel(chunks, std::min(threads, chunks), [&](int64_t chunk) {
        run(chunk * kChunk, std::min(rows, (chunk + 1) * kChunk), parts.data() + chunk * count);
    });
    for (int64_t i = 0; i < chunks * count; ++i) sums[i % count] += parts[i];
}

inline float rectified(float x) { return x < 0.0f ? 0.0f : x; }

// relu_sums for some rows. Single precision loses nothing, even where the mean is large, because
// the sums are of differences to the first row.
void rectify(const float* x, const float* bias, float* z, int64_t rows, int64_t dim,
             double* sums) {
    std::vector<float> parts(3 * dim, 0.0f), first(dim);
    std::vector<double> totals(3 * dim, 0.0);
    float *sum = parts.data(), *square = sum + dim, *on = square + dim;
    for (int64_t k = 0; k < dim; ++k) first[k] = rectified(x[k] + (bias ? bias[k] : 0.0f));
    const float* origin = first.data();
    for (int64_t r = 0; r < rows; ++r, x += dim, z += dim) {
#pragma omp simd
        for (int64_t k = 0; k < dim; ++k) {
            const float value = rectified(bias ? x[k] + bias[k] : x[k]);
            const float difference = value - origin[k];
            z[k] = value;
            sum[k] += difference;
            square[k] += difference * difference;
            on[k] += value > 0.0f ? 1.0f : 0.0f;
        }
        if (r % kRows == kRows - 1) add_parts(parts, totals.data());
    }
    add_parts(parts, totals.data());
    for (int64_t k = 0; k < dim; ++k) {
        const double shift = origin[k], total = totals[k];
        sums[k] += total + rows * shift;
        sums[dim + k] += totals[dim + k] + 2.0 * shift * total + rows * shift * shift;
        sums[2 * dim + k] += totals[2 * dim + k];
    }
}

}  // namespace

extern "C" {

// z = max(x + bias, 0), and sums (3, dim) of z, of its square and of z > 0. z may be x.
void relu_sums(const float* x, const float* bias, float* z, int64_t rows, int64_t dim,
               int64_t threads, double* sums) {
    over_rows(rows, threads, 3 * dim, sums, [=](int64_t first, int64_t end, double* own) {
        rectify(x + first * dim, bias, z + first * dim, end - first, dim, own);
    });
}

// y = (z - mean) scale + bypass_scale bypass. The bypass has `batch` rows, `sequence` floats
// apart, for each time; times are `time` floats apart. It may be null.
void normalize(const float* z, const float* mean, const float* scale, const float* bypass,
               int64_t batch, int64_t time, int64_t sequence, float bypass_scale, float* y,
               int64_t rows, int64_t dim, int64_t threads) {
    over_rows(rows, threads, 0, nullptr, [=](int64_t first, int64_t end, double*) {
        for (int64_t r = first; r < end; ++r) {
            const float* from = z + r * dim;
            float* to = y + r * dim;
            if (bypass) {
                const float* beside = bypass + r / batch * time + r % batch * sequence;
#pragma omp simd
                for (int64_t k = 0; k < dim; ++k)
                    to[k] = (from[k] - mean[k]) * scale[k] + bypass_scale * beside[k];
            } else {
#pragma omp simd
                for (int64_t k = 0; k < dim; ++k) to[k] = (from[k] - mean[k]) * scale[k];
            }
        }
    });
}

// Sums (2, dim) of the gradient for y, and of its products with z - mean.
void gradient_sums(const float* gradient, const float* z, const float* mean, int64_t rows,
                   int64_t dim, int64_t threads, double* sums) {
    over_rows(rows, threads, 2 * dim, sums, [=](int64_t first, int64_t end, double* own) {
        std::vector<float> parts(2 * dim, 0.0f);
        float *sum = parts.data(), *product = sum + dim;
        for (int64_t r = first; r < end; ++r) {
            const float *g = gradient + r * dim, *value = z + r * dim;
#pragma omp simd
            for (int64_t k = 0; k < dim; ++k) {
                sum[k] += g[k];
                product[k] += g[k] * (value[k] - mean[k]);
            }
            if ((r - first) % kRows == kRows - 1) add_parts(parts, own);
        }
        add_parts(parts, own);
    });
}

// The gradient for x and its sums (3, dim), from that for y; see Derivative.
void input_gradient(const float* gradient, const float* z, const float* mean, const float* scale,
                    const float* average, const float* product, const float* repair, float* target,
                    int64_t rows, int64_t dim, int64_t threads, double* sums) {
    const Derivative derivative = {gradient, z, mean, scale, average, product, repair};
    over_rows(rows, threads, 3 * dim, sums, [=](int64_t first, int64_t end, double* own) {
        derivative.make(first, end, dim, target + first * dim, own);
    });
}

}  // extern "C"
