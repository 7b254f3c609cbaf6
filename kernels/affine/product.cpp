// Matrix products in float32 on x86's matrix units for bfloat16 (AMX); see product.py.
//
// One operand is "kept": a block of it is converted and stays in the level-2 cache, while pieces of
// the other pass by, each converted once and multiplied with all of the block.

#include <cstdint>

#include "affine/split_products.h"
#include "native.h"

// out (rows, columns) = scale a b + bias, or that is added; then max(out, 0) with its sums, or with
// rows that lie beside it added. Of each operand's two strides one is 1: that of the depth, or the
// other one.
struct Product {
    int64_t rows, columns, depth;
    const float* a;
    int64_t a_row, a_depth;
    const float* b;
    int64_t b_depth, b_column;
    float* out;
    int64_t stride;
    int64_t accumulate;
    double scale;
    const float* bias;           // (columns,) or null
    int64_t rectify;
    double* sums;                // for each kGroup rows (3, columns): of out, its square, out > 0
    const float* const* beside;  // for each `batch` rows where theirs begin, or null; or null
    int64_t batch;
    double beside_scale;
    double* squares;  // (rows,) += sums of squares of the rows of a; or null
};

NNET_LAYOUT(Product, rows, columns, depth, a, a_row, a_depth, b, b_depth, b_column, out, stride,
            accumulate, scale, bias, rectify, sums, beside, batch, beside_scale, squares)

#ifdef NNET_MATRIX_UNITS

namespace {

constexpr int64_t kDeep = 24;     // most steps at once
constexpr int64_t kKept = 200;    // units of the kept block: 1.2 MB
constexpr int64_t kShallow = 12;  // steps up to which it is worth it to multiply by parts ...
constexpr int64_t kNear = 3;      // ... whose piece of what passes by stays in the level-1 cache
constexpr int64_t kPieces = 4;    // that pass by one thread, whatever the number of threads
constexpr int64_t kGroup = kPieces * kWide;
constexpr int kSquare = kWide * kWide;

// Sums of up to kWide rows of 16 columns, as differences to the first one: in single precision that
// loses nothing, even where the mean is large.
class Sums {
  public:
    void add(__m512 value) {
        if (!count_++) first_ = value;
        const __m512 difference = _mm512_sub_ps(value, first_);
        total_ = _mm512_add_ps(total_, difference);
        square_ = _mm512_fmadd_ps(difference, difference, square_);
        const __mmask16 on = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_GT_OQ);
        on_ = _mm512_mask_add_ps(on_, on, on_, _mm512_set1_ps(1.0f));
    }

    // Adds them to `sums` and to those `dim` and 2 `dim` further on.
    void add_to(int64_t columns, int64_t dim, double* sums) const {
        alignas(64) float first[kSide], total[kSide], square[kSide], on[kSide];
        _mm512_store_ps(first, first_);
        _mm512_store_ps(total, total_);
        _mm512_store_ps(square, square_);
        _mm512_store_ps(on, on_);
        for (int64_t k = 0; k < std::min<int64_t>(columns, kSide); ++k) {
            const double shift = first[k];
            sums[k] += total[k] + count_ * shift;
            sums[dim + k] += square[k] + shift * (2.0 * total[k] + count_ * shift);
            sums[2 * dim + k] += on[k];
        }
    }

  private:
    int64_t count_ = 0;
    __m512 first_ = _mm512_setzero_ps(), total_ = first_, square_ = first_, on_ = first_;
};

// What becomes of (kWide, kWide) products, at their place.
class Finish {
  public:
    Finish(const Product& all, int64_t row, int64_t column, bool add)
        : all_(all),
          row_(row),
          rows_(std::min<int64_t>(kWide, all.rows - row)),
          column_(column),
          add_(add),
          scale_(_mm512_set1_ps(static_cast<float>(all.scale))) {}

    // As they are, where more of the depth follows, and otherwise as it is wanted.
    void run(const float* made, bool last) const {
        for (int half = 0; half < kWide; half += kSide) {
            const int64_t columns = all_.columns - column_ - half;
            if (columns <= 0) return;
            if (last && all_.rectify)
                rectify(made + half, column_ + half, columns);
            else
                put(made + half, column_ + half, there(columns), last);
        }
    }

  private:
    float* at(int64_t i, int64_t column) const {
        return all_.out + (row_ + i) * all_.stride + column;
    }

    __m512 value(const float* made, const float* out, __mmask16 mask) const {
        const __m512 found = _mm512_mul_ps(_mm512_load_ps(made), scale_);
        return add_ ? _mm512_add_ps(found, _mm512_maskz_loadu_ps(mask, out)) : found;
    }

    __m512 bias(int64_t column, __mmask16 mask, bool last) const {
        const bool there_is = last && all_.bias;
        return there_is ? _mm512_maskz_loadu_ps(mask, all_.bias + column) : _mm512_setzero_ps();
    }

    void put(const float* made, int64_t column, __mmask16 mask, bool last) const {
        const __m512 scale = _mm512_set1_ps(static_cast<float>(all_.beside_scale));
        const __m512 offset = bias(column, mask, last);
        for (int64_t i = 0; i < rows_; ++i) {
            float* out = at(i, column);
            __m512 found = _mm512_add_ps(value(made + i * kWide, out, mask), offset);
            __builtin_prefetch(out + kWide, 1, 3);  // of the next columns
            const float* const* beside = last ? all_.beside : nullptr;
            if (const float* other = beside ? beside[(row_ + i) / all_.batch] : nullptr) {
                other += (row_ + i) % all_.batch * all_.columns + column;
                __builtin_prefetch(other + kWide, 0, 3);
                found = _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(mask, other), found);
            }
            _mm512_mask_storeu_ps(out, mask, found);
        }
    }

    void rectify(const float* made, int64_t column, int64_t columns) const {
        const __mmask16 mask = there(columns);
        const __m512 zero = _mm512_setzero_ps(), offset = bias(column, mask, true);
        Sums sums;
        for (int64_t i = 0; i < rows_; ++i) {
            float* out = at(i, column);
            __builtin_prefetch(out + kWide, 1, 3);  // of the next columns
            const __m512 found = _mm512_add_ps(value(made + i * kWide, out, mask), offset);
            const __mmask16 below = _mm512_cmp_ps_mask(found, zero, _CMP_LT_OQ);
            const __m512 rectified = _mm512_mask_mov_ps(found, below, zero);  // NaN stays
            sums.add(rectified);
            _mm512_mask_storeu_ps(out, mask, rectified);
        }
        const int64_t dim = all_.columns;
        sums.add_to(columns, dim, all_.sums + row_ / kGroup * 3 * dim + column);
    }

    const Product& all_;
    int64_t row_, rows_, column_;
    bool add_;
    __m512 scale_;
};

// A part of the depth, for a block of the kept operand: parts `begin` to `end` of it.
class Block {
  public:
    Block(const Product& all, const Operand& kept, const Operand& passing, int64_t begin,
          int64_t end, int64_t step, int64_t steps, Number* units, int64_t thread, int64_t threads)
        : all_(all), kept_(kept), passing_(passing), begin_(begin), end_(end),
          from_(step * kStep), to_(std::min(all.depth, (step + steps) * kStep)),
          steps_(parts_of(to_ - from_, kStep)), units_(units),
          thread_(thread), threads_(threads) {}

    void run() const {
        thread_local Room room, sums;
        share(end_ - begin_, thread_, threads_, [&](int64_t i) {
            bring(kept_, begin_ + i, units_ + i * steps_ * kUnit);
        });
        wait_for_team(threads_);
        const int64_t pieces = parts_of(passing_.count, kWide);
        Number* piece = room.units(steps_);
        float* made = sums.floats((end_ - begin_) * kSquare);
        share(parts_of(pieces, kPieces), thread_, threads_, [&](int64_t group) {
            const int64_t last = std::min(pieces, (group + 1) * kPieces);
            for (int64_t j = group * kPieces; j < last; ++j) {
                bring(passing_, j, piece);
                multiply_piece(j, piece, made);
            }
        });
        wait_for_team(threads_);
    }

  private:
    // Piece i of an operand, converted.
    void bring(const Operand& x, int64_t i, Number* made) const {
        convert(x, i * kWide, from_, to_, made);
        if (!all_.squares || x.paired || (kept_.paired && begin_)) return;
        for (int64_t row = i * kWide; row < std::min(x.count, (i + 1) * kWide); ++row)
            all_.squares[row] += squares(x.data + row * x.stride + from_, to_ - from_);
    }

    static float squares(const float* x, int64_t count) {
        __m512 sums[4] = {};
        for (int64_t k = 0; k < count; k += 4 * kSide)
            for (int i = 0; i < 4; ++i) {
                const __mmask16 mask = there(count - k - i * kSide);
                const __m512 value = _mm512_maskz_loadu_ps(mask, x + k + i * kSide);
                sums[i] = _mm512_fmadd_ps(value, value, sums[i]);
            }
        return _mm512_reduce_add_ps((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }

    void multiply_piece(int64_t j, const Number* piece, float* made) const {
        const int64_t parts = steps_ > kShallow ? 1 : parts_of(steps_, kNear);
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t first = steps_ * part / parts;
            const int64_t count = steps_ * (part + 1) / parts - first;
            const auto run = part ? ::multiply<true> : ::multiply<false>;
            for (int64_t i = begin_; i < end_; ++i) {
                const Number* own = units_ + ((i - begin_) * steps_ + first) * kUnit;
                const Number* other = piece + first * kUnit;
                const bool rows_pass = kept_.paired;
                const int64_t row = (rows_pass ? j : i) * kWide;
                const int64_t column = (rows_pass ? i : j) * kWide;
                float* sum = made + (i - begin_) * kSquare;
                run(rows_pass ? other : own, rows_pass ? own : other, count,
                    all_.columns - column, sum);
                if (part + 1 == parts)
                    Finish(all_, row, column, all_.accumulate || from_).run(sum, to_ == all_.depth);
            }
        }
    }

    const Product& all_;
    const Operand &kept_, &passing_;
    int64_t begin_, end_, from_, to_, steps_;
    Number* units_;
    int64_t thread_, threads_;
};

}  // namespace

extern "C" {

void multiply_matrices(const Product* given, int64_t threads) {
    const Product& all = *given;
    const Operand a = {all.a, all.rows, all.a_row, all.a_depth, false};
    const Operand b = {all.b, all.columns, all.b_column, all.b_depth, true};
    const Operand &kept = a.count < b.count ? a : b, &passing = a.count < b.count ? b : a;
    const int64_t panels = parts_of(kept.count, kWide), steps = parts_of(all.depth, kStep);
    const int64_t deep = parts_of(steps, parts_of(steps, kDeep));
    const int64_t most = std::min(panels, kKept / deep), blocks = parts_of(panels, most);
    thread_local Room room;
    Number* units = room.units(parts_of(panels, blocks) * deep);
    in_team(threads, [&](int64_t thread, int64_t all_threads) {
        const MatrixUnits on;
        for (int64_t number = 0; number < blocks; ++number)
            for (int64_t step = 0; step < steps; step += deep)
                Block(all, kept, passing, panels * number / blocks, panels * (number + 1) / blocks,
                      step, deep, units, thread, all_threads)
                    .run();
    });
}

}  // extern "C"

#endif
