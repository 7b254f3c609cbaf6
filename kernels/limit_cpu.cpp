// Limiting the norms of derivatives on a CPU, one pass over memory; see limit_cpu.py.

#include "native_rows.h"

extern "C" {

struct Limit {
    int64_t batch, dim;
    Rows gradient, target;
    const uint8_t* boundaries;  // (time, batch), or null
    float scale;                // of the component
    float clipping_threshold, zeroing_threshold;
    int64_t adds;     // whether the result is added to what is there
    int64_t* counts;  // rows that were scaled down, and rows set to zero, are added to it
};

// Rows `first` up to `end` of the derivative, scaled down to a norm, or zero at boundaries.
void limit_rows(const Limit* limit, int64_t first, int64_t end) {
    const FlushDenormals flush;
    const int64_t D = limit->dim;
    for (int64_t t = first; t < end; ++t) {
        for (int64_t b = 0; b < limit->batch; ++b) {
            const float* gradient = limit->gradient.at(t, b);
            float* target = limit->target.at(t, b);
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < D; ++k) sum += gradient[k] * gradient[k];
            float norm = std::sqrt(sum) * std::fabs(limit->scale);
            float factor = limit->scale;
            if (norm > limit->clipping_threshold) {
                factor *= limit->clipping_threshold / norm;
                ++limit->counts[0];
            }
            if (limit->boundaries && limit->boundaries[t * limit->batch + b] &&
                norm > limit->zeroing_threshold) {
                factor = 0.0f;
                ++limit->counts[1];
            }
            if (limit->adds) {
#pragma GCC ivdep
                for (int64_t k = 0; k < D; ++k) target[k] += factor * gradient[k];
            } else {
#pragma GCC ivdep
                for (int64_t k = 0; k < D; ++k) target[k] = factor * gradient[k];
            }
        }
    }
}

}  // extern "C"
