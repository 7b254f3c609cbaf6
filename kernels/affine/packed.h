// What affine transforms on packed weights share: where rows lie, and what they are finished with;
// see packed.py.

#pragma once

#include <algorithm>
#include <cstdint>

#include "native.h"

namespace {

// The sums of a tile of kRows rows and kColumns columns stay in registers.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kVectors = 2, kRows = 14;
#elif defined(__aarch64__)
constexpr int kWidth = 4, kVectors = 4, kRows = 6;
#elif defined(__AVX__)
constexpr int kWidth = 8, kVectors = 2, kRows = 6;
#else
constexpr int kWidth = 4, kVectors = 2, kRows = 6;
#endif
constexpr int kColumns = kWidth * kVectors;

typedef float Vector __attribute__((vector_size(kWidth * sizeof(float))));

// What is finished at once; a template's argument loses a type's alignment, its member does not.
struct Many {
    typedef float Value __attribute__((vector_size(kWidth * sizeof(float)), aligned(4)));
};
struct One {
    typedef float Value;
};

// Rows are numbered within groups: row i of group g lies at `rows + g group + i stride`.
struct PackedTerm {
    const float* rows;
    int64_t group, stride;
    int64_t begin, end;  // rows of the weight that belong to it
};

struct Bypass {
    const float* rows;
    int64_t group, stride;
    double scale;
};

struct Affine {
    int64_t groups, rows, columns;  // of the result
    int64_t depth;                  // columns of all terms
    int64_t terms, bypasses;
    const PackedTerm* term;
    const float* weight;  // for each kColumns columns: (depth, kColumns)
    const float* bias;    // one, or row i has row i % period of its group; or null
    int64_t bias_group, bias_stride, period;
    int64_t relu;
    const float* scales;  // (columns,) or null, as the offsets
    const float* offsets;
    const Bypass* bypass;
    float* out;
    int64_t group, stride;
};

// Rows `row` to `end` of a group.
struct Tile {
    int64_t group, row, end;

    Tile(const Affine& affine, int64_t number, int64_t in_group)
        : group(number / in_group),
          row(affine.rows * (number % in_group) / in_group),
          end(affine.rows * (number % in_group + 1) / in_group) {}

    template <class Rows>
    int64_t at(const Rows& rows) const {
        return group * rows.group + row * rows.stride;
    }
};

// Bias, ReLU, scales and offsets, bypasses for columns `column`, ... of the first row of a tile.
template <class Kind>
inline void finish(const Affine& affine, const Tile& tile, const float* bias, int64_t column,
                   const float* made, float* out) {
    using Value = typename Kind::Value;
    const auto load = [](const float* from) -> const Value& {
        return *reinterpret_cast<const Value*>(from);
    };
    Value y = load(made);
    if (bias) y += load(bias + column);
    if (affine.relu) y = y < Value{} ? Value{} : y;  // NaN stays
    if (affine.scales) y *= load(affine.scales + column);
    if (affine.offsets) y += load(affine.offsets + column);
    for (int64_t b = 0; b < affine.bypasses; ++b) {
        const Bypass& other = affine.bypass[b];
        y += static_cast<float>(other.scale) * load(other.rows + tile.at(other) + column);
    }
    *reinterpret_cast<Value*>(out + column) = y;
}

void finish_tile(const Affine& affine, Tile tile, int64_t column, const float* made) {
    const int64_t end = std::min(column + kColumns, affine.columns);
    const int64_t period = affine.period;
    for (; tile.row < tile.end; ++tile.row, made += kColumns) {
        float* out = affine.out + tile.at(affine);
        const float* bias = affine.bias;
        if (bias && period)
            bias += tile.group * affine.bias_group + tile.row % period * affine.bias_stride;
        int64_t j = column;
        for (; j + kWidth <= end; j += kWidth)
            finish<Many>(affine, tile, bias, j, made + j - column, out);
        for (; j < end; ++j) finish<One>(affine, tile, bias, j, made + j - column, out);
    }
}

// Calls run(affine, part, parts) for affine transforms one after the other, each in a part for
// each thread.
template <class Run>
void run_in_parts(const Affine* affines, int64_t count, int64_t threads, const Run& run) {
    in_team(threads, [&](int64_t part, int64_t parts) {
        for (int64_t i = 0; i < count; ++i) {
            run(affines[i], part, parts);
            wait_for_team(parts);
        }
    });
}

}  // namespace
