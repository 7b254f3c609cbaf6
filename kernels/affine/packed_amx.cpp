// Spliced affine transforms in bfloat16 on x86's matrix units (AMX), nearly as exact as float32: of
// rows and weights what rounding leaves is kept as a second bfloat16 number, and of the four
// products only that of the two rests is left out. Sums are float32. See packed.py.

#include "matrix_units.h"
#include "affine/packed.h"

#ifdef NNET_MATRIX_UNITS

#include <vector>

namespace {

constexpr int kTileRows = 2 * kSide;
constexpr int kWeights = 4 * kPiece;     // of a step of a panel: two halves, then their rests
constexpr int kValues = 4 * kPiece;      // of a step of a tile of rows, in the same order
constexpr int64_t kBlockTiles = 4;       // tiles of a block of rows
constexpr int64_t kAlone = 1 << 20;      // products that are not worth a second thread
constexpr int64_t kFewPanels = 8;        // whose products take less time than converting rows
constexpr int64_t kAhead = 4;            // steps whose weights are fetched
static_assert(kColumns == 2 * kSide, "a panel of weights is two registers wide");

int64_t steps_of(const PackedTerm& term) { return (term.end - term.begin + kStep - 1) / kStep; }

// 16 floats as bfloat16 numbers, and what is left as others.
inline void split(__m512 x, Number* to, Number* rest) {
    const __m256bh rounded = _mm512_cvtneps_pbh(x);
    const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)rounded), 16);
    const __m256bh left = _mm512_cvtneps_pbh(_mm512_sub_ps(x, _mm512_castsi512_ps(wide)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)rounded);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest), (__m256i)left);
}

// The rows of a tile for all terms, `values` (steps, kValues).
void convert(const Affine& affine, const Tile& tile, Number* values) {
    for (int64_t t = 0; t < affine.terms; ++t) {
        const PackedTerm& term = affine.term[t];
        const int64_t columns = term.end - term.begin, steps = steps_of(term);
        for (int64_t i = 0; i < tile.end - tile.row; ++i) {
            const float* x = term.rows + tile.at(term) + i * term.stride;
            Number* to = values + i * kStep;
            for (int64_t k = 0; k < steps * kStep; k += kSide) {
                const int64_t left = std::clamp<int64_t>(columns - k, 0, kSide);
                const __mmask16 there = static_cast<__mmask16>((1u << left) - 1);
                Number* place = to + k / kStep * kValues + k % kStep;
                split(_mm512_maskz_loadu_ps(there, x + k), place, place + 2 * kPiece);
            }
        }
        values += steps * kValues;
    }
}

// `made` (kTileRows, kColumns) = the products of a tile of rows and a panel.
void multiply(const Number* x, const Number* weight, int64_t steps, float* made) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < steps; ++step, x += kValues, weight += kWeights) {
        for (int64_t line = 0; line < kWeights; line += kStep)
            __builtin_prefetch(weight + kAhead * kWeights + line, 0, 3);
        _tile_loadd(6, weight, 64);
        _tile_loadd(7, weight + kPiece, 64);
        _tile_loadd(4, x + 2 * kPiece, 64);
        _tile_loadd(5, x + 3 * kPiece, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(4, x, 64);
        _tile_loadd(5, x + kPiece, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(6, weight + 2 * kPiece, 64);
        _tile_loadd(7, weight + 3 * kPiece, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    constexpr int stride = kColumns * sizeof(float);
    _tile_stored(0, made, stride);
    _tile_stored(1, made + kSide, stride);
    _tile_stored(2, made + kSide * kColumns, stride);
    _tile_stored(3, made + kSide * kColumns + kSide, stride);
}

// Part `part` of `parts` of the tiles: for each block of rows each panel, for it each tile. With
// few panels the other way round, so that no two threads convert the same rows.
void run_part(const Affine& affine, int64_t part, int64_t parts) {
    thread_local std::vector<Number> room;
    const int64_t in_group = (affine.rows + kTileRows - 1) / kTileRows;
    const int64_t tiles = in_group * affine.groups;
    const int64_t panels = (affine.columns + kColumns - 1) / kColumns;
    if (affine.groups * affine.rows * affine.columns * affine.depth < kAlone) {
        if (part) return;
        parts = 1;
    }
    const bool few = panels <= kFewPanels;
    int64_t steps = 0;
    for (int64_t t = 0; t < affine.terms; ++t) steps += steps_of(affine.term[t]);
    const int64_t begin = tiles * panels * part / parts;
    const int64_t end = tiles * panels * (part + 1) / parts;
    room.resize(kBlockTiles * steps * kValues + kStep);
    const auto address = (reinterpret_cast<uintptr_t>(room.data()) + 63) / 64 * 64;
    Number* values = reinterpret_cast<Number*>(address);
    const Number* weight = reinterpret_cast<const Number*>(affine.weight);
    alignas(64) float made[kTileRows * kColumns];
    for (int64_t first = 0; first < tiles; first += kBlockTiles) {
        const int64_t count = std::min(kBlockTiles, tiles - first);
        const int64_t from = std::max<int64_t>(begin - first * panels, 0);
        const int64_t to = std::min(end - first * panels, count * panels);
        uint64_t converted = 0;
        for (int64_t task = from; task < to; ++task) {
            const int64_t panel = few ? task % panels : task / count;
            const int64_t number = few ? task / panels : task % count;
            const Tile tile(affine, first + number, in_group);
            if (!(converted >> number & 1))
                convert(affine, tile, values + number * steps * kValues);
            converted |= uint64_t(1) << number;
            multiply(values + number * steps * kValues, weight + panel * steps * kWeights, steps,
                     made);
            finish_tile(affine, tile, panel * kColumns, made);
        }
    }
}

}  // namespace

extern "C" {

void run_affines_by_units(const Affine* affines, int64_t count, int64_t threads) {
    const auto run = [](const Affine& affine, int64_t part, int64_t parts) {
        const MatrixUnits on;
        run_part(affine, part, parts);
    };
    run_in_parts(affines, count, threads, run);
}

}  // extern "C"

#endif
