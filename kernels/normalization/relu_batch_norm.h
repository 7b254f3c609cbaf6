// From the gradient behind a rectified linear unit with batch-norm to that before it; see
// relu_batch_norm.py.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kRows = 32;    // whose sums are made in single precision
constexpr int64_t kChunk = 128;  // rows that one thread works on, whatever the number of threads

// Adds sums in single precision to those in double precision, and begins anew.
inline void add_parts(std::vector<float>& parts, double* sums) {
    for (size_t k = 0; k < parts.size(); ++k) {
        sums[k] += parts[k];
        parts[k] = 0.0f;
    }
}

// With d = scale (gradient - average - (z - mean) product), the gradient before the unit is
// repair + d where z > 0, and repair elsewhere.
struct Derivative {
    const float *gradient, *z;                              // (rows, dim)
    const float *mean, *scale, *average, *product, *repair;  // (dim,)

    // Rows `first` to `end` to `to`, and sums (3, dim): of the result, of its square, and of the
    // square of d.
    void make(int64_t first, int64_t end, int64_t dim, float* to, double* sums) const {
        std::vector<float> parts(3 * dim, 0.0f);
        float *sum = parts.data(), *power = sum + dim, *square = power + dim;
        for (int64_t r = first; r < end; ++r, to += dim) {
            const float *g = gradient + r * dim, *value = z + r * dim;
#pragma omp simd
            for (int64_t k = 0; k < dim; ++k) {
                const float centered = g[k] - average[k] - (value[k] - mean[k]) * product[k];
                const float d = scale[k] * centered;
                const float found = (value[k] <= 0.0f ? 0.0f : d) + repair[k];
                to[k] = found;
                sum[k] += found;
                power[k] += found * found;
                square[k] += d * d;
            }
            if ((r - first) % kRows == kRows - 1) add_parts(parts, sums);
        }
        add_parts(parts, sums);
    }
};

}  // namespace
