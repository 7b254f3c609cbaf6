// Spliced affine transforms on packed weights, finished in one pass; see packed.py. Written
// so that compilers keep a tile's sums in registers: without closures, loops unrolled by name.

#include <utility>

#include "affine/packed.h"

namespace {

constexpr int kGroup = 3;  // rows that are addressed from one pointer
constexpr int kSteps = 8;  // columns of rows that are multiplied without a branch
constexpr int kLine = 16;  // floats of a cache line
constexpr int64_t kNear = 512;          // floats ahead that are fetched where weights are read once
constexpr int64_t kRowBlock = 1 << 18;  // floats of rows that stay in the level-2 cache
constexpr int64_t kTiles = 24;          // most tiles of a block of rows
constexpr int64_t kAlone = 1 << 18;     // products that are not worth a second thread
constexpr int64_t kDepth = 256;         // columns of rows whose weights stay in the level-1 cache

// What the compiler may not work out beforehand: it would keep one pointer for each row, and spill.
template <class T>
inline void opaque(T& pointer) {
    asm volatile("" : "+r"(pointer));
}

// What is brought nearer while a tile is multiplied.
struct Ahead {
    const float* next;  // weights: `lines` cache lines every kSteps steps, into the second level
    int64_t lines;
    int64_t rows;  // of the tile and of the first bypass, if any: one every kSteps steps
    const float* out;
    const float* bypass;
    int64_t out_stride, bypass_stride;

    void fetch() {
        for (int64_t line = 0; line < lines; ++line, next += kLine) __builtin_prefetch(next, 0, 2);
        if (!rows) return;
        --rows;
        row<1>(out, out_stride);
        if (bypass) row<0>(bypass, bypass_stride);
    }

    template <int write>
    static void row(const float*& at, int64_t stride) {
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; j += kLine) __builtin_prefetch(at + j, write, 3);
        __builtin_prefetch(at + kColumns - 1, write, 3);
        at += stride;
    }
};

// `sums` += column `at` of rows times a row of a panel.
template <int rows, int groups>
[[gnu::always_inline]] inline void multiply_column(Vector (&sums)[rows][kVectors],
                                                   const float* (&x)[groups], int64_t stride,
                                                   int at, const float* weight) {
    Vector w[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
        w[j] = *reinterpret_cast<const Vector*>(weight + j * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        const float value = x[i / kGroup][i % kGroup * stride + at];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sums[i][j] += value * w[j];
    }
}

template <int groups>
[[gnu::always_inline]] inline void advance(const float* (&x)[groups], int count) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
        x[g] += count;
        opaque(x[g]);
    }
}

// `made` (kRows, kColumns) += products of `columns` columns of rows with rows of a panel.
template <int rows>
void multiply(const float* first, int64_t stride, int64_t columns, const float* weight,
              Ahead ahead, float* made) {
    constexpr int groups = (rows + kGroup - 1) / kGroup;
    const float* x[groups];
    Vector sums[rows][kVectors];
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
        x[g] = first + g * kGroup * stride;
        opaque(x[g]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j)
            sums[i][j] = *reinterpret_cast<Vector*>(made + i * kColumns + j * kWidth);
    for (; columns >= kSteps; columns -= kSteps) {
        ahead.fetch();
#pragma GCC unroll 8
        for (int at = 0; at < kSteps; ++at)
            multiply_column(sums, x, stride, at, weight + at * kColumns);
        weight += kSteps * kColumns;
        advance(x, kSteps);
    }
    for (; columns; --columns, weight += kColumns) {
        multiply_column(sums, x, stride, 0, weight);
        advance(x, 1);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j)
            *reinterpret_cast<Vector*>(made + i * kColumns + j * kWidth) = sums[i][j];
}

using Multiply = void (*)(const float*, int64_t, int64_t, const float*, Ahead, float*);
template <int... rows>
struct Table {
    static constexpr Multiply of[] = {multiply<rows + 1>...};
};
#if defined(__AVX512F__)
using Tiles = Table<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13>;
#else
using Tiles = Table<0, 1, 2, 3, 4, 5>;
#endif

// Rows `begin` to `end` of the weight, of which `weight` is a panel.
void multiply_tile(const Affine& affine, const Tile& tile, int64_t begin, int64_t end,
                   const float* weight, Ahead ahead, float* made) {
    const int64_t rows = std::exchange(ahead.rows, 0);
    for (int64_t t = 0; t < affine.terms; ++t) {
        const PackedTerm& term = affine.term[t];
        const int64_t from = std::max(begin, term.begin), columns = std::min(end, term.end) - from;
        if (columns <= 0) continue;
        if (from + columns == affine.depth) ahead.rows = rows;
        const float* x = term.rows + tile.at(term) + from - term.begin;
        Tiles::of[tile.end - tile.row - 1](x, term.stride, columns, weight, ahead, made);
        weight += columns * kColumns;
        ahead.next += columns / kSteps * ahead.lines * kLine;
    }
}

// Tiles `first` to `last` of one panel: for each part of the depth, each tile.
void run_panel(const Affine& affine, int64_t panel, int64_t in_group, int64_t first, int64_t last) {
    alignas(64) float made[kTiles][kRows * kColumns];
    std::fill_n(made[0], (last - first) * kRows * kColumns, 0.0f);
    const int64_t column = panel * kColumns, count = last - first;
    const int64_t lines = (kSteps * kColumns / kLine + count - 1) / count;
    const int64_t parts = std::max<int64_t>(1, (affine.depth + kDepth - 1) / kDepth);
    const auto edge = [&](int64_t part) {
        return part == parts ? affine.depth : affine.depth * part / parts / kSteps * kSteps;
    };
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = edge(part), end = edge(part + 1);
        const float* weight = affine.weight + (panel * affine.depth + begin) * kColumns;
        const float* next = weight + (count > 1 ? (end - begin) * kColumns : kNear);
        for (int64_t number = first; number < last; ++number) {
            const Tile tile(affine, number, in_group);
            const float* out = affine.out + tile.at(affine) + column;
            Ahead ahead = {next, lines, 0, out, nullptr, affine.stride, 0};
            if (end == affine.depth) ahead.rows = tile.end - tile.row;
            if (affine.bypasses) {
                const Bypass& other = *affine.bypass;
                ahead.bypass = other.rows + tile.at(other) + column;
                ahead.bypass_stride = other.stride;
            }
            multiply_tile(affine, tile, begin, end, weight, ahead, made[number - first]);
            if (end == affine.depth) finish_tile(affine, tile, column, made[number - first]);
            next += (end - begin) / kSteps * lines * kLine;
        }
    }
}

// Part `part` of `parts` of the tiles: for each block of rows that stays in the cache each panel
// of the weight, and for each panel each tile of the block.
void run_part(const Affine& affine, int64_t part, int64_t parts) {
    const int64_t in_group = (affine.rows + kRows - 1) / kRows, tiles = in_group * affine.groups;
    const int64_t panels = (affine.columns + kColumns - 1) / kColumns;
    if (affine.groups * affine.rows * affine.columns * affine.depth < kAlone) {
        if (part) return;
        parts = 1;
    }
    const int64_t fitting = kRowBlock / (kRows * std::max<int64_t>(1, affine.depth));
    const int64_t most = std::min(kTiles, std::max<int64_t>(8, fitting));
    const int64_t blocks = (tiles + most - 1) / most;
    const int64_t begin = tiles * panels * part / parts;
    const int64_t end = tiles * panels * (part + 1) / parts;
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = tiles * block / blocks, last = tiles * (block + 1) / blocks;
        for (int64_t panel = 0; panel < panels; ++panel) {
            const int64_t before = first * panels + panel * (last - first) - first;
            const int64_t from = std::max(first, begin - before);
            const int64_t to = std::min(last, end - before);
            if (from < to) run_panel(affine, panel, in_group, from, to);
        }
    }
}

}  // namespace

NNET_LAYOUT(PackedTerm, rows, group, stride, begin, end)
NNET_LAYOUT(Bypass, rows, group, stride, scale)
NNET_LAYOUT(Affine, groups, rows, columns, depth, terms, bypasses, term, weight, bias, bias_group,
            bias_stride, period, relu, scales, offsets, bypass, out, group, stride)

extern "C" {

int64_t panel_columns() { return kColumns; }

void run_affines(const Affine* affines, int64_t count, int64_t threads) {
    run_in_parts(affines, count, threads, run_part);
}

}  // extern "C"
