// The unit-by-unit parts of GRUs on a CPU, in passes over memory forward and back; see gru_cpu.py.

#include "native_rows.h"

namespace {

struct Gru {
    int64_t threads, batch, cells;
    int64_t states;        // columns of r and s'; 0 if there are none
    const float* weights;  // (cells): c' feeds back unit by unit; null: what feeds back is given
    Rows update, inner, previous;  // z, U x, c'
    Rows reset, state;             // r, s'
    Rows reset_state;              // r s'
    Rows output;                   // h, c; what feeds back, if it is given, is where h will be
};

// Rows of a gradient: what is found is added there, or written.
struct GruTarget {
    Rows rows;
    int64_t adds;
};

struct GruDerivative {
    Gru forward;
    Rows gradient;                             // for the output
    GruTarget of_update, of_inner, of_previous;   // for the input
    GruTarget of_reset, of_state;                 // gru_spread finds the gradient for r s' in of_reset
    Rows before_tanh;     // written: of_inner's rows, or what is added to them
    const float* repair;  // (cells): self-repair of h, which is added to the derivative; or null
    double* sums;         // (cells): the weights' derivative is added to it
    float* scratch;       // (threads, cells)
};

// A row's h and c. What is not there is not read (see lstm_cpu.cpp).
template <bool weighted>
void row_forward(const Gru* gru, int64_t t, int64_t b) {
    const int64_t C = gru->cells;
    const float *w = gru->weights, *z = gru->update.at(t, b), *inner = gru->inner.at(t, b);
    const float* previous = gru->previous.at(t, b);
    float *h = gru->output.at(t, b), *cell = h + C;
#pragma GCC ivdep
    for (int64_t k = 0; k < C; ++k) {
        float fed = weighted ? w[k] * previous[k] : h[k];
        float y = hyperbolic_tangent(inner[k] + fed);
        h[k] = y;
        cell[k] = y + z[k] * (previous[k] - y);
    }
}

// A row's derivatives by z, U x and c'.
template <bool weighted, bool repaired>
void row_backward(const GruDerivative* derivative, int64_t t, int64_t b, float* sum) {
    const Gru* gru = &derivative->forward;
    const int64_t C = gru->cells;
    const float *w = gru->weights, *repair = derivative->repair;
    const float *z = gru->update.at(t, b), *previous = gru->previous.at(t, b);
    const float *h = gru->output.at(t, b), *of_h = derivative->gradient.at(t, b);
    const float* of_cell = of_h + C;
    float* of_update = derivative->of_update.rows.at(t, b);
    float* of_previous = derivative->of_previous.rows.at(t, b);
    float* before_tanh = derivative->before_tanh.at(t, b);
    const bool adds_update = derivative->of_update.adds;
    const bool adds_previous = derivative->of_previous.adds;
#pragma GCC ivdep
    for (int64_t k = 0; k < C; ++k) {
        float inner = (of_h[k] + of_cell[k] * (1.0f - z[k])) * (1.0f - h[k] * h[k]);
        if (repaired) inner += repair[k] * h[k];
        float by_update = of_cell[k] * (previous[k] - h[k]);
        float by_previous = of_cell[k] * z[k];
        if (weighted) {
            by_previous += inner * w[k];
            sum[k] += inner * previous[k];
        }
        before_tanh[k] = inner;
        of_update[k] = (adds_update ? of_update[k] : 0.0f) + by_update;
        of_previous[k] = (adds_previous ? of_previous[k] : 0.0f) + by_previous;
    }
    if (!derivative->of_inner.adds) return;
    float* of_inner = derivative->of_inner.rows.at(t, b);
#pragma GCC ivdep
    for (int64_t k = 0; k < C; ++k) of_inner[k] += before_tanh[k];
}

}  // namespace

NNET_LAYOUT(GruTarget, rows, adds)
NNET_LAYOUT(Gru, threads, batch, cells, states, weights, update, inner, previous, reset, state,
            reset_state, output)
NNET_LAYOUT(GruDerivative, forward, gradient, of_update, of_inner, of_previous, of_reset, of_state,
            before_tanh, repair, sums, scratch)

extern "C" {

// r s' of rows `first` up to `end`.
void gru_reset(const Gru* gru, int64_t first, int64_t end) {
    const int64_t S = gru->states, batch = gru->batch;
    in_parts((end - first) * batch, S, gru->threads, [=](int64_t row, int64_t last, int64_t) {
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            const float *r = gru->reset.at(t, b), *s = gru->state.at(t, b);
            float* product = gru->reset_state.at(t, b);
#pragma GCC ivdep
            for (int64_t k = 0; k < S; ++k) product[k] = r[k] * s[k];
        }
    });
}

// h and c of rows `first` up to `end`.
void gru_forward(const Gru* gru, int64_t first, int64_t end) {
    const int64_t C = gru->cells, batch = gru->batch;
    const auto run = gru->weights ? row_forward<true> : row_forward<false>;
    in_parts((end - first) * batch, C, gru->threads, [=](int64_t row, int64_t last, int64_t) {
        for (; row < last; ++row) run(gru, first + row / batch, row % batch);
    });
}

// Derivatives of rows `first` up to `end` by z, U x and c', and their part of that by the weights.
void gru_backward(const GruDerivative* derivative, int64_t first, int64_t end) {
    const Gru* gru = &derivative->forward;
    const int64_t C = gru->cells, batch = gru->batch;
    const bool weighted = gru->weights;
    if (weighted) std::memset(derivative->scratch, 0, gru->threads * C * sizeof(float));
    const bool repaired = derivative->repair;
    const auto run = weighted ? (repaired ? row_backward<true, true> : row_backward<true, false>)
                              : (repaired ? row_backward<false, true> : row_backward<false, false>);
    in_parts((end - first) * batch, C, gru->threads, [=](int64_t row, int64_t last, int64_t part) {
        float* sum = derivative->scratch + part * C;
        for (; row < last; ++row) run(derivative, first + row / batch, row % batch, sum);
    });
    if (!weighted) return;
    for (int64_t part = 0; part < gru->threads; ++part)
        for (int64_t k = 0; k < C; ++k) derivative->sums[k] += derivative->scratch[part * C + k];
}

// From derivatives by r s' to those by r, in the same place, and s'; of rows `first` up to `end`.
void gru_spread(const GruDerivative* derivative, int64_t first, int64_t end) {
    const Gru* gru = &derivative->forward;
    const int64_t S = gru->states, batch = gru->batch;
    const bool adds = derivative->of_state.adds;
    in_parts((end - first) * batch, S, gru->threads, [=](int64_t row, int64_t last, int64_t) {
        for (; row < last; ++row) {
            const int64_t t = first + row / batch, b = row % batch;
            const float *r = gru->reset.at(t, b), *s = gru->state.at(t, b);
            float* of_reset = derivative->of_reset.rows.at(t, b);
            float* of_state = derivative->of_state.rows.at(t, b);
#pragma GCC ivdep
            for (int64_t k = 0; k < S; ++k) {
                float of_product = of_reset[k], by_state = of_product * r[k];
                of_reset[k] = of_product * s[k];
                of_state[k] = adds ? of_state[k] + by_state : by_state;
            }
        }
    });
}

}  // extern "C"
