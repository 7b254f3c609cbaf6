// The gradient before a rectified linear unit with batch-norm, and its products with the weights
// and with the inputs of the affine transform there, in one pass: see derivative_products.py.
//
// Blocks of rows of the gradient are made in the level-2 cache, and are converted twice for the
// matrix units: as rows of the one product, and as the depth of the other one.

#include <cstdint>
#include <vector>

#include "affine/split_products.h"
#include "native.h"
#include "normalization/relu_batch_norm.h"

struct Products {
    int64_t rows, dim;      // of the gradient
    Derivative derivative;  // how it is made
    const float* matrix;    // (dim, width), rows `matrix_row` apart
    int64_t matrix_row, width;
    float* made;     // (rows, width) = gradient matrix
    const float* x;  // (rows, columns), rows `x_row` apart
    int64_t x_row, columns;
    int64_t rank;     // so many last columns of `made` are inputs too
    float* products;  // of each thread, (columns + rank, dim) += inputs' gradient, in squares:
                      // those of x and those of `made` begin new ones
    double* sums;     // of each thread, (3, dim); see Derivative
};

NNET_LAYOUT(Derivative, gradient, z, mean, scale, average, product, repair)
NNET_LAYOUT(Products, rows, dim, derivative, matrix, matrix_row, width, made, x, x_row, columns,
            rank, products, sums)

#ifdef NNET_MATRIX_UNITS

namespace {

constexpr int kSquare = kWide * kWide;
constexpr int64_t kSteps = kChunk / kStep, kTiles = kChunk / kWide;

struct Inputs {
    Operand x, made;

    Inputs(const Products& all, int64_t row)
        : x{all.x + row * all.x_row, all.columns, 1, all.x_row, false},
          made{all.made + row * all.width + all.width - all.rank, all.rank, 1, all.width, false} {}

    // Both in units, for some rows.
    void convert(int64_t rows, Number* units) const {
        for (const Operand* part : {&x, &made})
            for (int64_t i = 0; i < part->count; i += kWide, units += kSteps * kUnit)
                ::convert(*part, i, 0, rows, units);
    }
};

// What a thread works with.
class Worker {
  public:
    Worker(const Products& all, const Number* matrix, int64_t thread)
        : all_(all),
          matrix_(matrix),
          depth_(parts_of(all.dim, kStep)),
          heads_(parts_of(all.columns, kWide) + parts_of(all.rank, kWide)),
          panels_(parts_of(all.dim, kWide)),
          products_(all.products + thread * heads_ * panels_ * kSquare),
          sums_(all.sums + thread * 3 * all.dim) {
        thread_local Room units, rows;
        units_ = units.units(std::max(kTiles * depth_, (heads_ + 1) * kSteps));
        derivative_ = rows.floats(kChunk * all.dim);
    }

    // Rows `first` to `end`.
    void run(int64_t first, int64_t end) const {
        all_.derivative.make(first, end, all_.dim, derivative_, sums_);
        if (all_.width) times_matrix(first, end);
        if (all_.products) times_inputs(first, end);
    }

  private:
    // The product of rows of the gradient with the matrix, which comes from far: each part of it is
    // multiplied with all rows.
    void times_matrix(int64_t first, int64_t end) const {
        alignas(64) float made[kSquare];
        const Operand rows = {derivative_, end - first, all_.dim, 1, false};
        const int64_t width = depth_ * kUnit;
        for (int64_t row = first, tile = 0; row < end; row += kWide, ++tile)
            convert(rows, row - first, 0, all_.dim, units_ + tile * width);
        for (int64_t column = 0; column < all_.width; column += kWide) {
            const Number* panel = matrix_ + column / kWide * width;
            for (int64_t row = first, tile = 0; row < end; row += kWide, ++tile) {
                multiply<false>(units_ + tile * width, panel, depth_, all_.width - column, made);
                for (int64_t i = 0; i < std::min<int64_t>(kWide, end - row); ++i)
                    store(made + i * kWide, all_.made + (row + i) * all_.width + column,
                          all_.width - column);
            }
        }
    }

    static void store(const float* from, float* to, int64_t columns) {
        for (int half = 0; half < kWide; half += kSide)
            _mm512_mask_storeu_ps(to + half, there(columns - half), _mm512_load_ps(from + half));
    }

    // The product of inputs with rows of the gradient.
    void times_inputs(int64_t first, int64_t end) const {
        const int64_t rows = end - first, steps = parts_of(rows, kStep);
        const Operand derivative = {derivative_, all_.dim, 1, all_.dim, true};
        Number *panel = units_, *inputs = panel + kSteps * kUnit;
        Inputs(all_, first).convert(rows, inputs);
        float* made = products_;
        for (int64_t j = 0; j < panels_; ++j) {
            convert(derivative, j * kWide, 0, rows, panel);
            for (int64_t i = 0; i < heads_; ++i, made += kSquare)
                multiply<true>(inputs + i * kSteps * kUnit, panel, steps, kWide, made);
        }
    }

    const Products& all_;
    const Number* matrix_;
    int64_t depth_, heads_, panels_;
    float* products_;
    double* sums_;
    Number* units_;
    float* derivative_;
};

}  // namespace

extern "C" {

void derivative_products(const Products* given, int64_t threads) {
    const Products& all = *given;
    const Operand matrix = {all.matrix, all.width, 1, all.matrix_row, true};
    const int64_t panels = parts_of(all.width, kWide), depth = parts_of(all.dim, kStep);
    thread_local Room room;
    Number* units = room.units(std::max<int64_t>(1, panels * depth));
    in_team(threads, [&](int64_t thread, int64_t all_threads) {
        const MatrixUnits on;
        const Worker worker(all, units, thread);
        share(panels, thread, all_threads, [&](int64_t i) {
            convert(matrix, i * kWide, 0, all.dim, units + i * depth * kUnit);
        });
        wait_for_team(all_threads);
        share(parts_of(all.rows, kChunk), thread, all_threads, [&](int64_t chunk) {
            worker.run(chunk * kChunk, std::min(all.rows, (chunk + 1) * kChunk));
        });
    });
}

}  // extern "C"

#endif
