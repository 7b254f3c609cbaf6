// Sums of squares on a CPU; see squares.py.

#include <algorithm>
#include <cstdint>

#include "native.h"

namespace {

constexpr int64_t kLanes = 64;             // sums in single precision
constexpr int64_t kLength = 32 * kLanes;   // of what is added up in single precision

}  // namespace

extern "C" {

// Of each of `rows` times `count` numbers the sum of squares.
void powers(const float* x, int64_t rows, int64_t count, int64_t threads, double* result) {
    in_parallel(rows, std::min(threads, rows), [=](int64_t r) {
        const float* row = x + r * count;
        double total = 0.0;
        for (int64_t first = 0; first < count; first += kLength) {
            float lanes[kLanes] = {};
            const int64_t end = std::min(count, first + kLength);
            int64_t i = first;
            for (; i + kLanes <= end; i += kLanes)
                for (int64_t k = 0; k < kLanes; ++k) lanes[k] += row[i + k] * row[i + k];
            for (int64_t k = 0; k < kLanes; ++k) total += lanes[k];
            for (; i < end; ++i) total += static_cast<double>(row[i]) * row[i];
        }
        result[r] = total;
    });
}

}  // extern "C"
