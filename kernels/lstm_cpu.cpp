// The unit-by-unit part of LSTMs on a CPU, one pass over memory forward and one back; see lstm_cpu.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

// Rows (time, batch, dim): where they start, and how many floats lie between rows.
struct Rows {
    float* data;
    int64_t time, batch;

    float* at(int64_t t, int64_t b) const { return data + t * time + b * batch; }
};

// exp(x) - 1 with a relative error of about 1e-7, also near 0: x = n log 2 + r, and
// 2^n (e^r - 1) + (2^n - 1) with a Taylor polynomial on |r| <= log(2) / 2.
inline float exp_minus_1(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    float shifted = x * 1.44269504f + magic;
    float n = shifted - magic;
    float r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r;
    int32_t bits;
    std::memcpy(&bits, &shifted, 4);
    bits = static_cast<int32_t>(static_cast<uint32_t>(bits) << 23) + (127 << 23);
    float power;
    std::memcpy(&power, &bits, 4);
    return power * p + (power - 1.0f);
}

// 0 where it is below 1e-27: products with smaller numbers would be denormal, which is slow.
inline float sigmoid(float x) {
    float y = 1.0f / (2.0f + exp_minus_1(-x));
    return x < -62.0f ? 0.0f : y;
}

inline float hyperbolic_tangent(float x) {
    x = x > 10.0f ? 10.0f : x;
    x = x < -10.0f ? -10.0f : x;
    float e = exp_minus_1(2.0f * x);
    return e / (e + 2.0f);
}

// Denormal results are zero while it lives.
class FlushDenormals {
  public:
#if defined(__SSE__)
    FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#endif
};

const int64_t kElementsPerThread = 8192;

// Calls work(row, end, thread) on `threads` equal parts of so many rows of `dim` columns each.
template <typename Work>
void in_parts(int64_t rows, int64_t dim, int64_t threads, const Work& work) {
    threads = std::max<int64_t>(1, std::min(threads, rows * dim / kElementsPerThread));
#if defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            const FlushDenormals flush;
            const int64_t parts = omp_get_num_threads(), thread = omp_get_thread_num();
            work(rows * thread / parts, rows * (thread + 1) / parts, thread);
        }
        return;
    }
#endif
    const FlushDenormals flush;
    work(0, rows, 0);
}

}  // namespace

extern "C" {

struct Lstm {
    int64_t threads, batch, cells;
    int64_t masked;        // whether three dropout masks follow the input's five blocks
    const float* weights;  // (3, cells): peepholes of i, f and o
    Rows input;            // i, f, c and o before the nonlinearities, the previous cell, masks
    Rows output;           // the cell, the output
    float* kept;           // (time, batch, 5, cells): i, f, tanh of c, o, tanh of the cell; or null
};

// Outputs of rows `first` up to `end`.
void lstm_forward(const Lstm* lstm, int64_t first, int64_t end) {
    const int64_t C = lstm->cells, batch = lstm->batch;
    const float *w_i = lstm->weights, *w_f = w_i + C, *w_o = w_f + C;
    in_parts((end - first) * batch, C, lstm->threads, [=](int64_t row, int64_t last, int64_t) {
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            const float* x = lstm->input.at(t, b);
            const float *in_i = x, *in_f = x + C, *in_c = x + 2 * C, *in_o = x + 3 * C;
            const float* previous = x + 4 * C;
            const bool masked = lstm->masked;
            const float drop_i = masked ? x[5 * C] : 1.0f, drop_f = masked ? x[5 * C + 1] : 1.0f;
            const float drop_o = masked ? x[5 * C + 2] : 1.0f;
            float *cell = lstm->output.at(t, b), *output = cell + C;
            float* kept = lstm->kept ? lstm->kept + (t * lstm->batch + b) * 5 * C : nullptr;
            if (kept) {
#pragma GCC ivdep
                for (int64_t k = 0; k < C; ++k) {
                    float i = sigmoid(in_i[k] + w_i[k] * previous[k]);
                    float f = sigmoid(in_f[k] + w_f[k] * previous[k]);
                    float g = hyperbolic_tangent(in_c[k]);
                    float c = drop_f * f * previous[k] + drop_i * i * g;
                    float o = sigmoid(in_o[k] + w_o[k] * c);
                    float m = hyperbolic_tangent(c);
                    cell[k] = c;
                    output[k] = drop_o * o * m;
                    kept[k] = i;
                    kept[C + k] = f;
                    kept[2 * C + k] = g;
                    kept[3 * C + k] = o;
                    kept[4 * C + k] = m;
                }
            } else {
#pragma GCC ivdep
                for (int64_t k = 0; k < C; ++k) {
                    float i = sigmoid(in_i[k] + w_i[k] * previous[k]);
                    float f = sigmoid(in_f[k] + w_f[k] * previous[k]);
                    float c = drop_f * f * previous[k] + drop_i * i * hyperbolic_tangent(in_c[k]);
                    cell[k] = c;
                    output[k] = drop_o * sigmoid(in_o[k] + w_o[k] * c) * hyperbolic_tangent(c);
                }
            }
        }
    });
}

struct LstmDerivative {
    Lstm forward;
    Rows gradient;        // for the output
    Rows target;          // for the input: written
    const float* repair;  // (5, cells): self-repair's scales of i, f, c, o and m; or null
    double* sums;         // (3, cells): the peepholes' derivatives are added to it
    float* scratch;       // (threads, 3, cells)
};

// Derivatives of rows `first` up to `end` by the input, and their part of those by the peepholes.
void lstm_backward(const LstmDerivative* derivative, int64_t first, int64_t end) {
    const Lstm* lstm = &derivative->forward;
    const int64_t C = lstm->cells, batch = lstm->batch;
    const float *w_i = lstm->weights, *w_f = w_i + C, *w_o = w_f + C;
    const float* repair = derivative->repair;
    float* const sums = derivative->scratch;
    std::memset(sums, 0, lstm->threads * 3 * C * sizeof(float));
    in_parts((end - first) * batch, C, lstm->threads, [=](int64_t row, int64_t last, int64_t part) {
        float *sum_i = sums + part * 3 * C, *sum_f = sum_i + C, *sum_o = sum_f + C;
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            const float *x = lstm->input.at(t, b), *previous = x + 4 * C;
            const bool masked = lstm->masked;
            const float drop_i = masked ? x[5 * C] : 1.0f, drop_f = masked ? x[5 * C + 1] : 1.0f;
            const float drop_o = masked ? x[5 * C + 2] : 1.0f;
            const float* cell = lstm->output.at(t, b);
            const float* kept = lstm->kept + (t * lstm->batch + b) * 5 * C;
            const float* of_cell = derivative->gradient.at(t, b);
            const float* of_output = of_cell + C;
            float* target = derivative->target.at(t, b);
            if (masked) target[5 * C] = target[5 * C + 1] = target[5 * C + 2] = 0.0f;
#pragma GCC ivdep
            for (int64_t k = 0; k < C; ++k) {
                float i = kept[k], f = kept[C + k], g = kept[2 * C + k];
                float o = kept[3 * C + k], m = kept[4 * C + k];
                float dm = drop_o * of_output[k];
                float d_o = dm * m * o * (1.0f - o);
                float d_c = of_cell[k] + dm * o * (1.0f - m * m);
                if (repair) {
                    d_o += repair[3 * C + k] * (2.0f * o - 1.0f);
                    d_c += repair[4 * C + k] * m;
                }
                d_c += d_o * w_o[k];
                float d_i = drop_i * d_c * g * i * (1.0f - i);
                float d_f = drop_f * d_c * previous[k] * f * (1.0f - f);
                float d_g = drop_i * d_c * i * (1.0f - g * g);
                if (repair) {
                    d_i += repair[k] * (2.0f * i - 1.0f);
                    d_f += repair[C + k] * (2.0f * f - 1.0f);
                    d_g += repair[2 * C + k] * g;
                }
                target[k] = d_i;
                target[C + k] = d_f;
                target[2 * C + k] = d_g;
                target[3 * C + k] = d_o;
                target[4 * C + k] = drop_f * d_c * f + d_i * w_i[k] + d_f * w_f[k];
                sum_i[k] += d_i * previous[k];
                sum_f[k] += d_f * previous[k];
                sum_o[k] += d_o * cell[k];
            }
        }
    });
    for (int64_t part = 0; part < lstm->threads; ++part)
        for (int64_t k = 0; k < 3 * C; ++k) derivative->sums[k] += sums[part * 3 * C + k];
}

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
