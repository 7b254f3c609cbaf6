// Made by `python -m tools.render_cells` from cell.py and definitions.py; see cpu.py.

#include "native_rows.h"

namespace {

// Rows of a buffer, and whether results are added to what is there.
struct CellBuffer {
    RowAddresses rows;
    int64_t adds;
};

// Numbers that are the same for all rows, (dim).
struct CellVector {
    const float* data;
};

// What a program runs on.
struct Cell {
    int64_t threads, batch;
    int64_t dim;                  // columns
    int64_t adds;                 // whether results are added to what is in any buffer
    const CellBuffer* buffers;
    const CellVector* vectors;
    double* sums;                 // (sums, dim), added to
    float* scratch;               // (threads, sums, dim)
};

inline float sigmoid_slope(float y) { return y * (1 - y); }
inline float sigmoid_push(float y) { return 2 * y - 1; }
inline float tanh_slope(float y) { return 1 - y * y; }
inline float tanh_push(float y) { return y; }

using Row = void (*)(const Cell*, int64_t, int64_t, float*);

// Calls `row` for rows `first` up to `end`, and adds up its sums over columns.
void run(const Cell* cell, int64_t first, int64_t end, int64_t sums, Row row) {
    const int64_t batch = cell->batch, size = sums * cell->dim;
    float* const scratch = cell->scratch;
    if (sums) std::memset(scratch, 0, cell->threads * size * sizeof(float));
    const auto work = [=](int64_t i, int64_t last, int64_t thread) {
        for (; i < last; ++i) row(cell, first + i / batch, i % batch, scratch + thread * size);
    };
    in_parts((end - first) * batch, cell->dim, cell->threads, work);
    if (!sums) return;
    for (int64_t thread = 0; thread < cell->threads; ++thread)
        for (int64_t k = 0; k < size; ++k) cell->sums[k] += scratch[thread * size + k];
}

void lstm_forward_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* gates = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    float* output = cell->buffers[2].rows.at(t, b);
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float previous_0 = previous[k];
        float v13 = sigmoid(gates[dim + k] + previous_0 * w0[k]) * previous_0 + sigmoid(gates[k] + previous_0 * w1[k]) * hyperbolic_tangent(gates[2 * dim + k]);
        float v19 = sigmoid(gates[3 * dim + k] + v13 * w2[k]) * hyperbolic_tangent(v13);
        output[k] = v13;
        output[dim + k] = v19;
    }
}

void lstm_forward_keeping_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* gates = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    float* kept = cell->buffers[2].rows.at(t, b);
    float* output = cell->buffers[3].rows.at(t, b);
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float v1 = hyperbolic_tangent(gates[2 * dim + k]);
        float previous_0 = previous[k];
        float v6 = sigmoid(gates[k] + previous_0 * w0[k]);
        float v10 = sigmoid(gates[dim + k] + previous_0 * w1[k]);
        float v13 = v10 * previous_0 + v6 * v1;
        float v17 = sigmoid(gates[3 * dim + k] + v13 * w2[k]);
        float v19 = v17 * hyperbolic_tangent(v13);
        kept[2 * dim + k] = v1;
        kept[k] = v6;
        kept[dim + k] = v10;
        output[k] = v13;
        kept[3 * dim + k] = v17;
        output[dim + k] = v19;
    }
}

template <bool adds>
void lstm_backward_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* gates = cell->buffers[2].rows.at(t, b);
    const float* previous = cell->buffers[3].rows.at(t, b);
    float* of_gates = cell->buffers[4].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float of_output_1 = of_output[dim + k];
        float v2 = hyperbolic_tangent(output_0);
        float v7 = sigmoid(gates[3 * dim + k] + output_0 * w0[k]);
        float v9 = of_output_1 * v2 * sigmoid_slope(v7);
        float previous_0 = previous[k];
        float v15 = of_output[k] + of_output_1 * v7 * tanh_slope(v2) + v9 * w0[k];
        float v21 = sigmoid(gates[dim + k] + previous_0 * w1[k]);
        float v23 = v15 * previous_0 * sigmoid_slope(v21);
        float v25 = hyperbolic_tangent(gates[2 * dim + k]);
        float v30 = sigmoid(gates[k] + previous_0 * w2[k]);
        float v32 = v15 * v25 * sigmoid_slope(v30);
        float v35 = v15 * v30 * tanh_slope(v25);
        float v39 = v15 * v21 + v23 * w1[k] + v32 * w2[k];
        sum[k] += v9 * output_0;
        sum[dim + k] += v23 * previous_0;
        sum[2 * dim + k] += v32 * previous_0;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v9;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v23;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v32;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v35;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v39;
    }
}

template <bool adds>
void lstm_backward_repaired_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* gates = cell->buffers[2].rows.at(t, b);
    const float* previous = cell->buffers[3].rows.at(t, b);
    float* of_gates = cell->buffers[4].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float* w3 = cell->vectors[3].data;
    const float* w4 = cell->vectors[4].data;
    const float* w5 = cell->vectors[5].data;
    const float* w6 = cell->vectors[6].data;
    const float* w7 = cell->vectors[7].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float v2 = hyperbolic_tangent(output_0);
        float v7 = sigmoid(gates[3 * dim + k] + output_0 * w0[k]);
        float of_output_1 = of_output[dim + k];
        float v11 = of_output_1 * v2 * sigmoid_slope(v7) + sigmoid_push(v7) * w1[k];
        float previous_0 = previous[k];
        float v24 = sigmoid(gates[dim + k] + previous_0 * w3[k]);
        float v18 = of_output[k] + of_output_1 * v7 * tanh_slope(v2) + tanh_push(v2) * w2[k] + v11 * w0[k];
        float v28 = v18 * previous_0 * sigmoid_slope(v24) + sigmoid_push(v24) * w4[k];
        float v30 = hyperbolic_tangent(gates[2 * dim + k]);
        float v35 = sigmoid(gates[k] + previous_0 * w5[k]);
        float v39 = v18 * v30 * sigmoid_slope(v35) + sigmoid_push(v35) * w6[k];
        float v43 = v18 * v24 + v28 * w3[k] + v39 * w5[k];
        float v48 = v18 * v35 * tanh_slope(v30) + tanh_push(v30) * w7[k];
        sum[k] += v2;
        sum[dim + k] += v2 * v2;
        sum[2 * dim + k] += v7;
        sum[3 * dim + k] += v7 * v7;
        sum[4 * dim + k] += v11 * output_0;
        sum[5 * dim + k] += v24;
        sum[6 * dim + k] += v24 * v24;
        sum[7 * dim + k] += v28 * previous_0;
        sum[8 * dim + k] += v35;
        sum[9 * dim + k] += v35 * v35;
        sum[10 * dim + k] += v39 * previous_0;
        sum[11 * dim + k] += v30;
        sum[12 * dim + k] += v30 * v30;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v11;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v28;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v39;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v43;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v48;
    }
}

template <bool adds>
void lstm_backward_from_kept_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* kept = cell->buffers[2].rows.at(t, b);
    const float* previous = cell->buffers[3].rows.at(t, b);
    float* of_gates = cell->buffers[4].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float of_output_1 = of_output[dim + k];
        float v2 = hyperbolic_tangent(output_0);
        float kept_3 = kept[3 * dim + k];
        float v6 = of_output_1 * v2 * sigmoid_slope(kept_3);
        float previous_0 = previous[k];
        float v12 = of_output[k] + of_output_1 * kept_3 * tanh_slope(v2) + v6 * w0[k];
        float kept_1 = kept[dim + k];
        float v17 = v12 * previous_0 * sigmoid_slope(kept_1);
        float kept_2 = kept[2 * dim + k];
        float kept_0 = kept[k];
        float v22 = v12 * kept_2 * sigmoid_slope(kept_0);
        float v25 = v12 * kept_0 * tanh_slope(kept_2);
        float v29 = v12 * kept_1 + v17 * w1[k] + v22 * w2[k];
        sum[k] += v6 * output_0;
        sum[dim + k] += v17 * previous_0;
        sum[2 * dim + k] += v22 * previous_0;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v6;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v17;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v22;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v25;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v29;
    }
}

template <bool adds>
void lstm_backward_from_kept_repaired_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* kept = cell->buffers[2].rows.at(t, b);
    const float* previous = cell->buffers[3].rows.at(t, b);
    float* of_gates = cell->buffers[4].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float* w3 = cell->vectors[3].data;
    const float* w4 = cell->vectors[4].data;
    const float* w5 = cell->vectors[5].data;
    const float* w6 = cell->vectors[6].data;
    const float* w7 = cell->vectors[7].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float v2 = hyperbolic_tangent(output_0);
        float kept_3 = kept[3 * dim + k];
        float of_output_1 = of_output[dim + k];
        float v8 = of_output_1 * v2 * sigmoid_slope(kept_3) + sigmoid_push(kept_3) * w0[k];
        float previous_0 = previous[k];
        float kept_1 = kept[dim + k];
        float v15 = of_output[k] + of_output_1 * kept_3 * tanh_slope(v2) + tanh_push(v2) * w1[k] + v8 * w2[k];
        float v22 = v15 * previous_0 * sigmoid_slope(kept_1) + sigmoid_push(kept_1) * w3[k];
        float kept_2 = kept[2 * dim + k];
        float kept_0 = kept[k];
        float v29 = v15 * kept_2 * sigmoid_slope(kept_0) + sigmoid_push(kept_0) * w4[k];
        float v33 = v15 * kept_1 + v22 * w5[k] + v29 * w6[k];
        float v38 = v15 * kept_0 * tanh_slope(kept_2) + tanh_push(kept_2) * w7[k];
        sum[k] += v2;
        sum[dim + k] += v2 * v2;
        sum[2 * dim + k] += kept_3;
        sum[3 * dim + k] += kept_3 * kept_3;
        sum[4 * dim + k] += v8 * output_0;
        sum[5 * dim + k] += kept_1;
        sum[6 * dim + k] += kept_1 * kept_1;
        sum[7 * dim + k] += v22 * previous_0;
        sum[8 * dim + k] += kept_0;
        sum[9 * dim + k] += kept_0 * kept_0;
        sum[10 * dim + k] += v29 * previous_0;
        sum[11 * dim + k] += kept_2;
        sum[12 * dim + k] += kept_2 * kept_2;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v8;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v22;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v29;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v33;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v38;
    }
}

void lstm_dropout_forward_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* gates = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    float* output = cell->buffers[3].rows.at(t, b);
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
    const float masks_2 = masks[2];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float previous_0 = previous[k];
        float v17 = sigmoid(gates[dim + k] + previous_0 * w0[k]) * masks_1 * previous_0 + sigmoid(gates[k] + previous_0 * w1[k]) * masks_0 * hyperbolic_tangent(gates[2 * dim + k]);
        float v25 = sigmoid(gates[3 * dim + k] + v17 * w2[k]) * masks_2 * hyperbolic_tangent(v17);
        output[k] = v17;
        output[dim + k] = v25;
    }
}

void lstm_dropout_forward_keeping_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* gates = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    float* kept = cell->buffers[3].rows.at(t, b);
    float* output = cell->buffers[4].rows.at(t, b);
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
    const float masks_2 = masks[2];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float v1 = hyperbolic_tangent(gates[2 * dim + k]);
        float previous_0 = previous[k];
        float v6 = sigmoid(gates[k] + previous_0 * w0[k]);
        float v10 = sigmoid(gates[dim + k] + previous_0 * w1[k]);
        float v17 = v10 * masks_1 * previous_0 + v6 * masks_0 * v1;
        float v21 = sigmoid(gates[3 * dim + k] + v17 * w2[k]);
        float v25 = v21 * masks_2 * hyperbolic_tangent(v17);
        kept[2 * dim + k] = v1;
        kept[k] = v6;
        kept[dim + k] = v10;
        output[k] = v17;
        kept[3 * dim + k] = v21;
        output[dim + k] = v25;
    }
}

template <bool adds>
void lstm_dropout_backward_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    const float* gates = cell->buffers[3].rows.at(t, b);
    const float* previous = cell->buffers[4].rows.at(t, b);
    float* of_gates = cell->buffers[5].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[5].adds;
    float* of_previous = cell->buffers[6].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[6].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float masks_2 = masks[2];
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float of_output_1 = of_output[dim + k];
        float v2 = hyperbolic_tangent(output_0);
        float v9 = sigmoid(gates[3 * dim + k] + output_0 * w0[k]);
        float v11 = of_output_1 * v2 * masks_2 * sigmoid_slope(v9);
        float previous_0 = previous[k];
        float v18 = of_output[k] + of_output_1 * v9 * masks_2 * tanh_slope(v2) + v11 * w0[k];
        float v26 = sigmoid(gates[dim + k] + previous_0 * w1[k]);
        float v28 = v18 * previous_0 * masks_1 * sigmoid_slope(v26);
        float v30 = hyperbolic_tangent(gates[2 * dim + k]);
        float v37 = sigmoid(gates[k] + previous_0 * w2[k]);
        float v39 = v18 * v30 * masks_0 * sigmoid_slope(v37);
        float v43 = v18 * v37 * masks_0 * tanh_slope(v30);
        float v48 = v18 * v26 * masks_1 + v28 * w1[k] + v39 * w2[k];
        sum[k] += v11 * output_0;
        sum[dim + k] += v28 * previous_0;
        sum[2 * dim + k] += v39 * previous_0;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v11;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v28;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v39;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v43;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v48;
    }
}

template <bool adds>
void lstm_dropout_backward_repaired_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    const float* gates = cell->buffers[3].rows.at(t, b);
    const float* previous = cell->buffers[4].rows.at(t, b);
    float* of_gates = cell->buffers[5].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[5].adds;
    float* of_previous = cell->buffers[6].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[6].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float* w3 = cell->vectors[3].data;
    const float* w4 = cell->vectors[4].data;
    const float* w5 = cell->vectors[5].data;
    const float* w6 = cell->vectors[6].data;
    const float* w7 = cell->vectors[7].data;
    const float masks_2 = masks[2];
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float v2 = hyperbolic_tangent(output_0);
        float v9 = sigmoid(gates[3 * dim + k] + output_0 * w0[k]);
        float of_output_1 = of_output[dim + k];
        float v13 = of_output_1 * v2 * masks_2 * sigmoid_slope(v9) + sigmoid_push(v9) * w1[k];
        float previous_0 = previous[k];
        float v29 = sigmoid(gates[dim + k] + previous_0 * w3[k]);
        float v21 = of_output[k] + of_output_1 * v9 * masks_2 * tanh_slope(v2) + tanh_push(v2) * w2[k] + v13 * w0[k];
        float v33 = v21 * previous_0 * masks_1 * sigmoid_slope(v29) + sigmoid_push(v29) * w4[k];
        float v35 = hyperbolic_tangent(gates[2 * dim + k]);
        float v42 = sigmoid(gates[k] + previous_0 * w5[k]);
        float v46 = v21 * v35 * masks_0 * sigmoid_slope(v42) + sigmoid_push(v42) * w6[k];
        float v51 = v21 * v29 * masks_1 + v33 * w3[k] + v46 * w5[k];
        float v57 = v21 * v42 * masks_0 * tanh_slope(v35) + tanh_push(v35) * w7[k];
        sum[k] += v2;
        sum[dim + k] += v2 * v2;
        sum[2 * dim + k] += v9;
        sum[3 * dim + k] += v9 * v9;
        sum[4 * dim + k] += v13 * output_0;
        sum[5 * dim + k] += v29;
        sum[6 * dim + k] += v29 * v29;
        sum[7 * dim + k] += v33 * previous_0;
        sum[8 * dim + k] += v42;
        sum[9 * dim + k] += v42 * v42;
        sum[10 * dim + k] += v46 * previous_0;
        sum[11 * dim + k] += v35;
        sum[12 * dim + k] += v35 * v35;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v13;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v33;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v46;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v51;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v57;
    }
}

template <bool adds>
void lstm_dropout_backward_from_kept_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    const float* kept = cell->buffers[3].rows.at(t, b);
    const float* previous = cell->buffers[4].rows.at(t, b);
    float* of_gates = cell->buffers[5].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[5].adds;
    float* of_previous = cell->buffers[6].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[6].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float masks_2 = masks[2];
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float of_output_1 = of_output[dim + k];
        float v2 = hyperbolic_tangent(output_0);
        float kept_3 = kept[3 * dim + k];
        float v8 = of_output_1 * v2 * masks_2 * sigmoid_slope(kept_3);
        float previous_0 = previous[k];
        float v15 = of_output[k] + of_output_1 * kept_3 * masks_2 * tanh_slope(v2) + v8 * w0[k];
        float kept_1 = kept[dim + k];
        float v22 = v15 * previous_0 * masks_1 * sigmoid_slope(kept_1);
        float kept_2 = kept[2 * dim + k];
        float kept_0 = kept[k];
        float v29 = v15 * kept_2 * masks_0 * sigmoid_slope(kept_0);
        float v33 = v15 * kept_0 * masks_0 * tanh_slope(kept_2);
        float v38 = v15 * kept_1 * masks_1 + v22 * w1[k] + v29 * w2[k];
        sum[k] += v8 * output_0;
        sum[dim + k] += v22 * previous_0;
        sum[2 * dim + k] += v29 * previous_0;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v8;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v22;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v29;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v33;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v38;
    }
}

template <bool adds>
void lstm_dropout_backward_from_kept_repaired_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* output = cell->buffers[1].rows.at(t, b);
    const float* masks = cell->buffers[2].rows.at(t, b);
    const float* kept = cell->buffers[3].rows.at(t, b);
    const float* previous = cell->buffers[4].rows.at(t, b);
    float* of_gates = cell->buffers[5].rows.at(t, b);
    const bool adds_of_gates = adds && cell->buffers[5].adds;
    float* of_previous = cell->buffers[6].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[6].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
    const float* w2 = cell->vectors[2].data;
    const float* w3 = cell->vectors[3].data;
    const float* w4 = cell->vectors[4].data;
    const float* w5 = cell->vectors[5].data;
    const float* w6 = cell->vectors[6].data;
    const float* w7 = cell->vectors[7].data;
    const float masks_2 = masks[2];
    const float masks_1 = masks[1];
    const float masks_0 = masks[0];
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float output_0 = output[k];
        float v2 = hyperbolic_tangent(output_0);
        float kept_3 = kept[3 * dim + k];
        float of_output_1 = of_output[dim + k];
        float v10 = of_output_1 * v2 * masks_2 * sigmoid_slope(kept_3) + sigmoid_push(kept_3) * w0[k];
        float previous_0 = previous[k];
        float kept_1 = kept[dim + k];
        float v18 = of_output[k] + of_output_1 * kept_3 * masks_2 * tanh_slope(v2) + tanh_push(v2) * w1[k] + v10 * w2[k];
        float v27 = v18 * previous_0 * masks_1 * sigmoid_slope(kept_1) + sigmoid_push(kept_1) * w3[k];
        float kept_2 = kept[2 * dim + k];
        float kept_0 = kept[k];
        float v36 = v18 * kept_2 * masks_0 * sigmoid_slope(kept_0) + sigmoid_push(kept_0) * w4[k];
        float v41 = v18 * kept_1 * masks_1 + v27 * w5[k] + v36 * w6[k];
        float v47 = v18 * kept_0 * masks_0 * tanh_slope(kept_2) + tanh_push(kept_2) * w7[k];
        sum[k] += v2;
        sum[dim + k] += v2 * v2;
        sum[2 * dim + k] += kept_3;
        sum[3 * dim + k] += kept_3 * kept_3;
        sum[4 * dim + k] += v10 * output_0;
        sum[5 * dim + k] += kept_1;
        sum[6 * dim + k] += kept_1 * kept_1;
        sum[7 * dim + k] += v27 * previous_0;
        sum[8 * dim + k] += kept_0;
        sum[9 * dim + k] += kept_0 * kept_0;
        sum[10 * dim + k] += v36 * previous_0;
        sum[11 * dim + k] += kept_2;
        sum[12 * dim + k] += kept_2 * kept_2;
        of_gates[3 * dim + k] = (adds_of_gates ? of_gates[3 * dim + k] : 0.0f) + v10;
        of_gates[dim + k] = (adds_of_gates ? of_gates[dim + k] : 0.0f) + v27;
        of_gates[k] = (adds_of_gates ? of_gates[k] : 0.0f) + v36;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v41;
        of_gates[2 * dim + k] = (adds_of_gates ? of_gates[2 * dim + k] : 0.0f) + v47;
    }
}

void output_gru_forward_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* inner = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* update = cell->buffers[2].rows.at(t, b);
    float* output = cell->buffers[3].rows.at(t, b);
    const float* w0 = cell->vectors[0].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float previous_0 = previous[k];
        float v4 = hyperbolic_tangent(inner[k] + previous_0 * w0[k]);
        float v8 = v4 + update[k] * (previous_0 - v4);
        output[k] = v4;
        output[dim + k] = v8;
    }
}

template <bool adds>
void output_gru_backward_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* output = cell->buffers[2].rows.at(t, b);
    const float* update = cell->buffers[3].rows.at(t, b);
    float* of_update = cell->buffers[4].rows.at(t, b);
    const bool adds_of_update = adds && cell->buffers[4].adds;
    float* before_tanh = cell->buffers[5].rows.at(t, b);
    float* of_inner = cell->buffers[6].rows.at(t, b);
    const bool adds_of_inner = adds && cell->buffers[6].adds;
    float* of_previous = cell->buffers[7].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[7].adds;
    const float* w0 = cell->vectors[0].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float previous_0 = previous[k];
        float of_output_1 = of_output[dim + k];
        float output_0 = output[k];
        float v4 = of_output_1 * (previous_0 - output_0);
        float v7 = of_output_1 * update[k];
        float v10 = (of_output[k] + of_output_1 - v7) * tanh_slope(output_0);
        float v12 = v7 + v10 * w0[k];
        sum[k] += v10 * previous_0;
        of_update[k] = (adds_of_update ? of_update[k] : 0.0f) + v4;
        before_tanh[k] = v10;
        of_inner[k] = (adds_of_inner ? of_inner[k] : 0.0f) + v10;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v12;
    }
}

template <bool adds>
void output_gru_backward_repaired_row(const Cell* cell, int64_t t, int64_t b, float* sum) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* output = cell->buffers[2].rows.at(t, b);
    const float* update = cell->buffers[3].rows.at(t, b);
    float* of_update = cell->buffers[4].rows.at(t, b);
    const bool adds_of_update = adds && cell->buffers[4].adds;
    float* before_tanh = cell->buffers[5].rows.at(t, b);
    float* of_inner = cell->buffers[6].rows.at(t, b);
    const bool adds_of_inner = adds && cell->buffers[6].adds;
    float* of_previous = cell->buffers[7].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[7].adds;
    const float* w0 = cell->vectors[0].data;
    const float* w1 = cell->vectors[1].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float previous_0 = previous[k];
        float of_output_1 = of_output[dim + k];
        float output_0 = output[k];
        float v4 = of_output_1 * (previous_0 - output_0);
        float v7 = of_output_1 * update[k];
        float v12 = (of_output[k] + of_output_1 - v7) * tanh_slope(output_0) + tanh_push(output_0) * w0[k];
        float v14 = v7 + v12 * w1[k];
        sum[k] += v12 * previous_0;
        of_update[k] = (adds_of_update ? of_update[k] : 0.0f) + v4;
        before_tanh[k] = v12;
        of_inner[k] = (adds_of_inner ? of_inner[k] : 0.0f) + v12;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v14;
    }
}

void gru_forward_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* reset = cell->buffers[0].rows.at(t, b);
    const float* state = cell->buffers[1].rows.at(t, b);
    float* fed = cell->buffers[2].rows.at(t, b);
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float v2 = reset[k] * state[k];
        fed[k] = v2;
    }
}

void gru_forward_1_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* inner = cell->buffers[0].rows.at(t, b);
    const float* product_0 = cell->buffers[1].rows.at(t, b);
    const float* update = cell->buffers[2].rows.at(t, b);
    const float* previous = cell->buffers[3].rows.at(t, b);
    float* output = cell->buffers[4].rows.at(t, b);
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float v3 = hyperbolic_tangent(inner[k] + product_0[k]);
        float v8 = v3 + update[k] * (previous[k] - v3);
        output[k] = v3;
        output[dim + k] = v8;
    }
}

template <bool adds>
void gru_backward_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* output = cell->buffers[2].rows.at(t, b);
    const float* update = cell->buffers[3].rows.at(t, b);
    float* of_update = cell->buffers[4].rows.at(t, b);
    const bool adds_of_update = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    float* before_tanh = cell->buffers[6].rows.at(t, b);
    float* of_inner = cell->buffers[7].rows.at(t, b);
    const bool adds_of_inner = adds && cell->buffers[7].adds;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float of_output_1 = of_output[dim + k];
        float output_0 = output[k];
        float v4 = of_output_1 * (previous[k] - output_0);
        float v6 = of_output_1 * update[k];
        float v10 = (of_output[k] + of_output_1 - v6) * tanh_slope(output_0);
        of_update[k] = (adds_of_update ? of_update[k] : 0.0f) + v4;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v6;
        before_tanh[k] = v10;
        of_inner[k] = (adds_of_inner ? of_inner[k] : 0.0f) + v10;
    }
}

template <bool adds>
void gru_backward_1_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* product_0 = cell->buffers[0].rows.at(t, b);
    const float* state = cell->buffers[1].rows.at(t, b);
    const float* reset = cell->buffers[2].rows.at(t, b);
    float* of_reset = cell->buffers[3].rows.at(t, b);
    const bool adds_of_reset = adds && cell->buffers[3].adds;
    float* of_state = cell->buffers[4].rows.at(t, b);
    const bool adds_of_state = adds && cell->buffers[4].adds;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float product_0_0 = product_0[k];
        float v2 = product_0_0 * state[k];
        float v4 = product_0_0 * reset[k];
        of_reset[k] = (adds_of_reset ? of_reset[k] : 0.0f) + v2;
        of_state[k] = (adds_of_state ? of_state[k] : 0.0f) + v4;
    }
}

template <bool adds>
void gru_backward_repaired_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* of_output = cell->buffers[0].rows.at(t, b);
    const float* previous = cell->buffers[1].rows.at(t, b);
    const float* output = cell->buffers[2].rows.at(t, b);
    const float* update = cell->buffers[3].rows.at(t, b);
    float* of_update = cell->buffers[4].rows.at(t, b);
    const bool adds_of_update = adds && cell->buffers[4].adds;
    float* of_previous = cell->buffers[5].rows.at(t, b);
    const bool adds_of_previous = adds && cell->buffers[5].adds;
    float* before_tanh = cell->buffers[6].rows.at(t, b);
    float* of_inner = cell->buffers[7].rows.at(t, b);
    const bool adds_of_inner = adds && cell->buffers[7].adds;
    const float* w0 = cell->vectors[0].data;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float of_output_1 = of_output[dim + k];
        float output_0 = output[k];
        float v4 = of_output_1 * (previous[k] - output_0);
        float v6 = of_output_1 * update[k];
        float v12 = (of_output[k] + of_output_1 - v6) * tanh_slope(output_0) + tanh_push(output_0) * w0[k];
        of_update[k] = (adds_of_update ? of_update[k] : 0.0f) + v4;
        of_previous[k] = (adds_of_previous ? of_previous[k] : 0.0f) + v6;
        before_tanh[k] = v12;
        of_inner[k] = (adds_of_inner ? of_inner[k] : 0.0f) + v12;
    }
}

template <bool adds>
void gru_backward_repaired_1_row(const Cell* cell, int64_t t, int64_t b, float*) {
    const int64_t dim = cell->dim;
    const float* product_0 = cell->buffers[0].rows.at(t, b);
    const float* state = cell->buffers[1].rows.at(t, b);
    const float* reset = cell->buffers[2].rows.at(t, b);
    float* of_reset = cell->buffers[3].rows.at(t, b);
    const bool adds_of_reset = adds && cell->buffers[3].adds;
    float* of_state = cell->buffers[4].rows.at(t, b);
    const bool adds_of_state = adds && cell->buffers[4].adds;
#pragma GCC ivdep
    for (int64_t k = 0; k < dim; ++k) {
        float product_0_0 = product_0[k];
        float v2 = product_0_0 * state[k];
        float v4 = product_0_0 * reset[k];
        of_reset[k] = (adds_of_reset ? of_reset[k] : 0.0f) + v2;
        of_state[k] = (adds_of_state ? of_state[k] : 0.0f) + v4;
    }
}

}  // namespace

NNET_LAYOUT(CellBuffer, rows, adds)
NNET_LAYOUT(CellVector, data)
NNET_LAYOUT(Cell, threads, batch, dim, adds, buffers, vectors, sums, scratch)

extern "C" {

void lstm_forward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, lstm_forward_row);
}

void lstm_forward_keeping(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, lstm_forward_keeping_row);
}

void lstm_backward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 3, cell->adds ? lstm_backward_row<true> : lstm_backward_row<false>);
}

void lstm_backward_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 13, cell->adds ? lstm_backward_repaired_row<true> : lstm_backward_repaired_row<false>);
}

void lstm_backward_from_kept(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 3, cell->adds ? lstm_backward_from_kept_row<true> : lstm_backward_from_kept_row<false>);
}

void lstm_backward_from_kept_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 13, cell->adds ? lstm_backward_from_kept_repaired_row<true> : lstm_backward_from_kept_repaired_row<false>);
}

void lstm_dropout_forward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, lstm_dropout_forward_row);
}

void lstm_dropout_forward_keeping(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, lstm_dropout_forward_keeping_row);
}

void lstm_dropout_backward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 3, cell->adds ? lstm_dropout_backward_row<true> : lstm_dropout_backward_row<false>);
}

void lstm_dropout_backward_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 13, cell->adds ? lstm_dropout_backward_repaired_row<true> : lstm_dropout_backward_repaired_row<false>);
}

void lstm_dropout_backward_from_kept(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 3, cell->adds ? lstm_dropout_backward_from_kept_row<true> : lstm_dropout_backward_from_kept_row<false>);
}

void lstm_dropout_backward_from_kept_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 13, cell->adds ? lstm_dropout_backward_from_kept_repaired_row<true> : lstm_dropout_backward_from_kept_repaired_row<false>);
}

void output_gru_forward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, output_gru_forward_row);
}

void output_gru_backward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 1, cell->adds ? output_gru_backward_row<true> : output_gru_backward_row<false>);
}

void output_gru_backward_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 1, cell->adds ? output_gru_backward_repaired_row<true> : output_gru_backward_repaired_row<false>);
}

void gru_forward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, gru_forward_row);
}

void gru_forward_1(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, gru_forward_1_row);
}

void gru_backward(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, cell->adds ? gru_backward_row<true> : gru_backward_row<false>);
}

void gru_backward_1(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, cell->adds ? gru_backward_1_row<true> : gru_backward_1_row<false>);
}

void gru_backward_repaired(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, cell->adds ? gru_backward_repaired_row<true> : gru_backward_repaired_row<false>);
}

void gru_backward_repaired_1(const Cell* cell, int64_t first, int64_t end) {
    run(cell, first, end, 0, cell->adds ? gru_backward_repaired_1_row<true> : gru_backward_repaired_1_row<false>);
}

}  // extern "C"
