// What functions over rows of a loop on a CPU share; see native_rows.py.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "native.h"

namespace {

// Rows (time, batch, dim): where they start, and how many floats lie between rows.
struct RowAddresses {
    float* data;
    int64_t time, batch;

    float* at(int64_t t, int64_t b) const { return data + t * time + b * batch; }
};

// `x` from `lowest` to `highest`; NaN stays.
inline float limited(float x, float lowest, float highest) {
    x = x < lowest ? lowest : x;
    return x > highest ? highest : x;
}

// exp(x) - 1 of -87 <= x <= 88 with a relative error of about 1e-7, also near 0: x = n log 2 + r,
// and 2^n (e^r - 1) + (2^n - 1) with a Taylor polynomial on |r| <= log(2) / 2.
inline float exp_minus_1(float x) {
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
    float y = 1.0f / (2.0f + exp_minus_1(-limited(x, -62.0f, 62.0f)));
    return x < -62.0f ? 0.0f : y;
}

inline float hyperbolic_tangent(float x) {
    float e = exp_minus_1(2.0f * limited(x, -10.0f, 10.0f));
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
    in_team(threads, [&](int64_t thread, int64_t parts) {
        const FlushDenormals flush;
        work(rows * thread / parts, rows * (thread + 1) / parts, thread);
    });
}

}  // namespace
