// The unit-by-unit part of LSTMs on a CPU, one pass over memory forward and one back; see lstm_cpu.py.

#include "native_rows.h"

namespace {

// The three factors of a row by dropout, of i, f and o.
struct Masks {
    float i = 1.0f, f = 1.0f, o = 1.0f;

    Masks(const Rows& rows, int64_t t, int64_t b) {
        if (rows.data) {
            const float* row = rows.at(t, b);
            i = row[0];
            f = row[1];
            o = row[2];
        }
    }
};

struct Lstm {
    int64_t threads, batch, cells;
    const float* weights;  // (3, cells): peepholes of i, f and o
    Rows gates;            // (4 cells): i, f, c and o before the nonlinearities
    Rows previous;         // (cells): the previous cell
    Rows masks;            // (3): dropout masks, or no data
    Rows output;           // (2 cells): the cell, the output
    Rows kept;             // (4 cells): i, f, tanh of c, o; or no data; may be the gates' rows
};

constexpr int64_t kSums = 13;

struct LstmDerivative {
    Lstm forward;
    Rows gradient;         // (2 cells): for the output
    Rows to_gates;         // (4 cells): written; may be the rows of what was kept
    Rows to_previous;      // (cells): written
    Rows to_masks;         // (3): set to zero, or no data
    const float* repair;   // (5, cells): self-repair's scales of i, f, c, o and m; or null
    double* sums;          // (13, cells), added to: the peepholes' derivatives; with self-repair,
                           // sums of i, f, c, o and m, and of their squares
    float* scratch;        // (threads, 13, cells)
};

// A row's cell and output.
template <bool keeps>
void row_forward(const Lstm* lstm, int64_t t, int64_t b) {
    const int64_t C = lstm->cells;
    const float *w_i = lstm->weights, *w_f = w_i + C, *w_o = w_f + C;
    const float *x = lstm->gates.at(t, b), *previous = lstm->previous.at(t, b);
    const Masks drop(lstm->masks, t, b);
    float *cell = lstm->output.at(t, b), *output = cell + C;
    float* kept = keeps ? lstm->kept.at(t, b) : nullptr;
#pragma GCC ivdep
    for (int64_t k = 0; k < C; ++k) {
        float i = sigmoid(x[k] + w_i[k] * previous[k]);
        float f = sigmoid(x[C + k] + w_f[k] * previous[k]);
        float g = hyperbolic_tangent(x[2 * C + k]);
        float c = drop.f * f * previous[k] + drop.i * i * g;
        float o = sigmoid(x[3 * C + k] + w_o[k] * c);
        cell[k] = c;
        output[k] = drop.o * o * hyperbolic_tangent(c);
        if (keeps) {
            kept[k] = i;
            kept[C + k] = f;
            kept[2 * C + k] = g;
            kept[3 * C + k] = o;
        }
    }
}

// A row's derivatives by the input, and its part of the sums. Without self-repair nothing is read
// of it: a masked load from nowhere is no error, but takes hundreds of cycles.
template <bool repaired>
void row_backward(const LstmDerivative* derivative, int64_t t, int64_t b, float* sum) {
    const Lstm* lstm = &derivative->forward;
    const int64_t C = lstm->cells;
    const float *w_i = lstm->weights, *w_f = w_i + C, *w_o = w_f + C;
    const float* repair = derivative->repair;
    const float *previous = lstm->previous.at(t, b), *cell = lstm->output.at(t, b);
    const float *kept = lstm->kept.at(t, b), *of_cell = derivative->gradient.at(t, b);
    const float* of_output = of_cell + C;
    const Masks drop(lstm->masks, t, b);
    float* to_gates = derivative->to_gates.at(t, b);
    float* to_previous = derivative->to_previous.at(t, b);
#pragma GCC ivdep
    for (int64_t k = 0; k < C; ++k) {
        float i = kept[k], f = kept[C + k], g = kept[2 * C + k], o = kept[3 * C + k];
        float m = hyperbolic_tangent(cell[k]);
        float dm = drop.o * of_output[k];
        float d_o = dm * m * o * (1.0f - o);
        float d_c = of_cell[k] + dm * o * (1.0f - m * m);
        if (repaired) {
            d_o += repair[3 * C + k] * (2.0f * o - 1.0f);
            d_c += repair[4 * C + k] * m;
        }
        d_c += d_o * w_o[k];
        float d_i = drop.i * d_c * g * i * (1.0f - i);
        float d_f = drop.f * d_c * previous[k] * f * (1.0f - f);
        float d_g = drop.i * d_c * i * (1.0f - g * g);
        if (repaired) {
            d_i += repair[k] * (2.0f * i - 1.0f);
            d_f += repair[C + k] * (2.0f * f - 1.0f);
            d_g += repair[2 * C + k] * g;
            sum[3 * C + k] += i;
            sum[4 * C + k] += f;
            sum[5 * C + k] += g;
            sum[6 * C + k] += o;
            sum[7 * C + k] += m;
            sum[8 * C + k] += i * i;
            sum[9 * C + k] += f * f;
            sum[10 * C + k] += g * g;
            sum[11 * C + k] += o * o;
            sum[12 * C + k] += m * m;
        }
        to_gates[k] = d_i;
        to_gates[C + k] = d_f;
        to_gates[2 * C + k] = d_g;
        to_gates[3 * C + k] = d_o;
        float cell_before = previous[k];
        to_previous[k] = drop.f * d_c * f + d_i * w_i[k] + d_f * w_f[k];
        sum[k] += d_i * cell_before;
        sum[C + k] += d_f * cell_before;
        sum[2 * C + k] += d_o * cell[k];
    }
}

}  // namespace

NNET_LAYOUT(Lstm, threads, batch, cells, weights, gates, previous, masks, output, kept)
NNET_LAYOUT(LstmDerivative, forward, gradient, to_gates, to_previous, to_masks, repair, sums, scratch)

extern "C" {

// Outputs of rows `first` up to `end`.
void lstm_forward(const Lstm* lstm, int64_t first, int64_t end) {
    const int64_t C = lstm->cells, batch = lstm->batch;
    in_parts((end - first) * batch, C, lstm->threads, [=](int64_t row, int64_t last, int64_t) {
        const auto run = lstm->kept.data ? row_forward<true> : row_forward<false>;
        for (; row < last; ++row) run(lstm, first + row / batch, row % batch);
    });
}

// Derivatives of rows `first` up to `end` by the input, and their part of the sums.
void lstm_backward(const LstmDerivative* derivative, int64_t first, int64_t end) {
    const Lstm* lstm = &derivative->forward;
    const int64_t C = lstm->cells, batch = lstm->batch;
    const Rows to_masks = derivative->to_masks;
    float* const scratch = derivative->scratch;
    std::memset(scratch, 0, lstm->threads * kSums * C * sizeof(float));
    in_parts((end - first) * batch, C, lstm->threads, [=](int64_t row, int64_t last, int64_t part) {
        const auto run = derivative->repair ? row_backward<true> : row_backward<false>;
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            run(derivative, t, b, scratch + part * kSums * C);
            if (to_masks.data) std::fill_n(to_masks.at(t, b), 3, 0.0f);
        }
    });
    const int64_t rows = derivative->repair ? kSums : 3;
    for (int64_t part = 0; part < lstm->threads; ++part)
        for (int64_t k = 0; k < rows * C; ++k)
            derivative->sums[k] += scratch[part * kSums * C + k];
}

}  // extern "C"
