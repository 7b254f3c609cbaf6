// Limiting the norms of derivatives on a CPU, one pass over memory; see limit_cpu.py.

#include "native_rows.h"

// Where some columns of the result go.
struct LimitTarget {
    RowAddresses rows;
    int64_t dim;
    int64_t adds;  // whether the result is added to what is there
};

struct Limit {
    int64_t threads, batch, dim;
    RowAddresses gradient;
    int64_t targets;
    const LimitTarget* target;       // side by side they are as wide as the gradient
    const uint8_t* boundaries;  // (time, batch), or null
    float scale;                // of the component
    float clipping_threshold, zeroing_threshold;
    int64_t* counts;  // (threads, 2): rows that were scaled down, and rows set to zero, are added
};

NNET_LAYOUT(LimitTarget, rows, dim, adds)
NNET_LAYOUT(Limit, threads, batch, dim, gradient, targets, target, boundaries, scale,
            clipping_threshold, zeroing_threshold, counts)

namespace {

// By what a row is multiplied.
float factor_of(const Limit* limit, const float* gradient, bool boundary, int64_t* counts) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < limit->dim; ++k) sum += gradient[k] * gradient[k];
    const float norm = std::sqrt(sum) * std::fabs(limit->scale);
    const bool clipped = norm > limit->clipping_threshold;
    const bool zeroed = boundary && norm > limit->zeroing_threshold;
    counts[0] += clipped;
    counts[1] += zeroed;
    if (zeroed) return 0.0f;
    return clipped ? limit->scale * (limit->clipping_threshold / norm) : limit->scale;
}

}  // namespace

extern "C" {

// Rows `first` up to `end` of the derivative, scaled down to a norm, or zero at boundaries.
void limit_rows(const Limit* limit, int64_t first, int64_t end) {
    const int64_t batch = limit->batch;
    const auto work = [=](int64_t row, int64_t last, int64_t part) {
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            const float* gradient = limit->gradient.at(t, b);
            const bool boundary = limit->boundaries && limit->boundaries[t * batch + b];
            const float factor = factor_of(limit, gradient, boundary, limit->counts + 2 * part);
            for (int64_t i = 0; i < limit->targets; ++i) {
                const LimitTarget& target = limit->target[i];
                float* out = target.rows.at(t, b);
                if (target.adds) {
#pragma GCC ivdep
                    for (int64_t k = 0; k < target.dim; ++k) out[k] += factor * gradient[k];
                } else {
#pragma GCC ivdep
                    for (int64_t k = 0; k < target.dim; ++k) out[k] = factor * gradient[k];
                }
                gradient += target.dim;
            }
        }
    };
    in_parts((end - first) * batch, limit->dim, limit->threads, work);
}

}  // extern "C"
