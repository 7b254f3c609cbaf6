// Sums of rows and of their squares in float64 on a CPU, in one pass; see cpu.py.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "native.h"

namespace {

constexpr int64_t kColumns = 64;  // whose sums stay in registers
constexpr int64_t kAlone = 65536;  // elements that are not worth a second thread

int64_t worth(int64_t threads, int64_t elements) { return elements > kAlone ? threads : 1; }

template <bool squares>
void add_up(const float* x, int64_t rows, int64_t stride, int64_t columns, double* sums,
            double* powers) {
    double sum[kColumns] = {}, power[kColumns] = {};
    if (columns == kColumns) {
        for (int64_t t = 0; t < rows; ++t, x += stride)
            for (int64_t k = 0; k < kColumns; ++k) {
                const double value = x[k];
                sum[k] += value;
                if (squares) power[k] += value * value;
            }
    } else {
        for (int64_t t = 0; t < rows; ++t, x += stride)
            for (int64_t k = 0; k < columns; ++k) {
                const double value = x[k];
                sum[k] += value;
                if (squares) power[k] += value * value;
            }
    }
    for (int64_t k = 0; k < columns; ++k) {
        sums[k] = sum[k];
        if (squares) powers[k] = power[k];
    }
}

}  // namespace

extern "C" {

// From x (rows, batch, dim), rows `time` and sequences `sequence` floats apart, to sums
// (batch, dim), or (batch, 2 dim) with those of squares behind.
void window_sum(const float* x, int64_t rows, int64_t time, int64_t batch, int64_t sequence,
                int64_t dim, int64_t squares, double* result, int64_t threads) {
    const int64_t parts = (dim + kColumns - 1) / kColumns, width = squares ? 2 * dim : dim;
    in_parallel(batch * parts, worth(threads, rows * batch * dim), [=](int64_t part) {
        const int64_t b = part / parts, first = part % parts * kColumns;
        const int64_t columns = std::min(kColumns, dim - first);
        const float* from = x + b * sequence + first;
        double* to = result + b * width + first;
        if (squares)
            add_up<true>(from, rows, time, columns, to, to + dim);
        else
            add_up<false>(from, rows, time, columns, to, nullptr);
    });
}

// As above, to result (batch, 2 dim): means, and standard deviations from variances of at least
// `least`. What variances are made of is rounded first, so that equal rows have one of zero.
void window_deviations(const float* x, int64_t rows, int64_t time, int64_t batch, int64_t sequence,
                       int64_t dim, double least, float* result, int64_t threads) {
    const int64_t parts = (dim + kColumns - 1) / kColumns;
    in_parallel(batch * parts, worth(threads, rows * batch * dim), [=](int64_t part) {
        const int64_t b = part / parts, first = part % parts * kColumns;
        const int64_t columns = std::min(kColumns, dim - first);
        double sums[kColumns], powers[kColumns];
        add_up<true>(x + b * sequence + first, rows, time, columns, sums, powers);
        float* means = result + b * 2 * dim + first;
        for (int64_t k = 0; k < columns; ++k) {
            const float mean = sums[k] / rows, square = powers[k] / rows;
            const volatile float power = mean * mean;  // rounded, not part of a fused operation
            means[k] = mean;
            means[dim + k] = std::sqrt(std::max(square - power, static_cast<float>(least)));
        }
    });
}

}  // extern "C"
