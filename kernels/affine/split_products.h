// Matrix products in float32 on matrix units for bfloat16; see product.py.
//
// A float is the sum of three bfloat16 numbers, and of their nine products the three that are
// below float32's own rounding are left out. Sums are float32.

#pragma once

#include "matrix_units.h"

#ifdef NNET_MATRIX_UNITS

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace {

constexpr int kSplits = 3;
constexpr int kWide = 2 * kSide;             // rows, or columns, that are multiplied at once
constexpr int kUnit = kSplits * 2 * kPiece;  // numbers of kWide rows and kStep columns
constexpr int64_t kPage = 1 << 21;           // bytes: a huge one

int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

using Words = __m512i;  // pairs of bfloat16 numbers

// Three times 16 pairs that are sums to the numbers of u (in the low halves) and v.
inline void split(__m512 u, __m512 v, Words (&made)[kSplits]) {
    const Words order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const Words high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    for (int i = 0; i < kSplits; ++i) {
        made[i] = _mm512_permutexvar_epi16(order, (Words)_mm512_cvtne2ps_pbh(v, u));
        u = _mm512_sub_ps(u, _mm512_castsi512_ps(_mm512_slli_epi32(made[i], 16)));
        v = _mm512_sub_ps(v, _mm512_castsi512_ps(_mm512_and_si512(made[i], high)));
    }
}

void transpose(Words (&m)[kSide]) {
    Words t[kSide];
    for (int i = 0; i < kSide; i += 2) {
        t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
    for (int i = 0; i < kSide; i += 4) {
        m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        m[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        m[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        m[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        m[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// Rows of a, or columns of b: those of `begin`, ... are `stride` floats apart.
struct Operand {
    const float* data;
    int64_t count, stride, depth_stride;
    bool paired;  // a register's row is a pair of the depth, as for b, and not of the count

    bool deep() const { return depth_stride == 1; }
};

inline __mmask16 there(int64_t left) {
    return static_cast<__mmask16>((1u << std::clamp<int64_t>(left, 0, kSide)) - 1);
}

// A register's numbers, of up to 16 rows (or columns) and up to 32 of the depth. Pairs are of those
// that are 16 apart in depth.
template <bool deep, bool turned>
void convert_piece(const float* data, int64_t line, int64_t count, int64_t depth, Number* to) {
    Words rows[kSplits][kSide];
    const int64_t lines = deep ? count : depth;
    const __mmask16 first = there(deep ? depth : count);
    const __mmask16 second = deep ? there(depth - kSide) : first;
#pragma GCC unroll 4
    for (int i = 0; i < kSide; ++i) {
        const float* u = data + i * line;
        const float* v = deep ? u + kSide : u + kSide * line;
        if (!deep) {  // of the next step
            __builtin_prefetch(u + kStep * line, 0, 3);
            __builtin_prefetch(v + kStep * line, 0, 3);
        }
        const __mmask16 of_u = i < lines ? first : 0;
        const __mmask16 of_v = (deep ? i : i + kSide) < lines ? second : 0;
        Words made[kSplits];
        split(_mm512_maskz_loadu_ps(of_u, u), _mm512_maskz_loadu_ps(of_v, v), made);
        for (int s = 0; s < kSplits; ++s) {
            if (turned)
                rows[s][i] = made[s];
            else
                _mm512_store_si512(to + s * 2 * kPiece + i * kStep, made[s]);
        }
    }
    if (!turned) return;
    for (int s = 0; s < kSplits; ++s) {
        transpose(rows[s]);
        for (int i = 0; i < kSide; ++i)
            _mm512_store_si512(to + s * 2 * kPiece + i * kStep, rows[s][i]);
    }
}

// Units of kWide rows (or columns) from `begin` on, and of the depth from `from` to `to`.
void convert(const Operand& x, int64_t begin, int64_t from, int64_t to, Number* made) {
    const auto deep = x.paired ? convert_piece<true, true> : convert_piece<true, false>;
    const auto flat = x.paired ? convert_piece<false, false> : convert_piece<false, true>;
    const auto piece = x.deep() ? deep : flat;
    const int64_t line = x.deep() ? x.stride : x.depth_stride;
    for (int64_t k = from; k < to; k += kStep, made += kUnit)
        for (int half = 0; half < 2; ++half) {
            const int64_t first = begin + half * kSide;
            const float* data = x.data + first * x.stride + k * x.depth_stride;
            piece(data, line, x.count - first, to - k, made + half * kPiece);
        }
}

// The products of `steps` units are written to `made` (kWide, kWide), or added to what is there;
// those of the first kSide columns of b alone, or all.
template <bool add, bool all>
void multiply(const Number* a, const Number* b, int64_t steps, float* made) {
    const auto load_a = [&](int split) __attribute__((always_inline)) {
        _tile_loadd(4, a + split * 2 * kPiece, 64);
        _tile_loadd(5, a + (split * 2 + 1) * kPiece, 64);
    };
    const auto load_b = [&](int split) __attribute__((always_inline)) {
        _tile_loadd(6, b + split * 2 * kPiece, 64);
        if (all) _tile_loadd(7, b + (split * 2 + 1) * kPiece, 64);
    };
    const auto run = []() __attribute__((always_inline)) {
        _tile_dpbf16ps(0, 4, 6);
        if (all) _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        if (all) _tile_dpbf16ps(3, 5, 7);
    };
    constexpr int bytes = kWide * sizeof(float);
    float* below = made + kSide * kWide;
    if (add) {
        _tile_loadd(0, made, bytes);
        _tile_loadd(2, below, bytes);
        if (all) _tile_loadd(1, made + kSide, bytes);
        if (all) _tile_loadd(3, below + kSide, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t step = 0; step < steps; ++step, a += kUnit, b += kUnit) {
        load_a(2), load_b(0), run();
        load_a(0), run();
        load_a(1), run();
        load_b(1), run();
        load_a(0), run();
        load_b(2), run();
    }
    _tile_stored(0, made, bytes);
    _tile_stored(2, below, bytes);
    if (all) _tile_stored(1, made + kSide, bytes);
    if (all) _tile_stored(3, below + kSide, bytes);
}

// The same for so many columns of b.
template <bool add>
void multiply(const Number* a, const Number* b, int64_t steps, int64_t columns, float* made) {
    (columns > kSide ? multiply<add, true> : multiply<add, false>)(a, b, steps, made);
}

struct Free {
    void operator()(Number* numbers) const { std::free(numbers); }
};

// Room for so many units or floats, kept by this thread.
class Room {
  public:
    float* floats(int64_t count) {
        const int64_t bytes = kUnit * sizeof(Number);
        return reinterpret_cast<float*>(units(parts_of(count * sizeof(float), bytes)));
    }

    Number* units(int64_t count) {
        if (count > count_) {
            const size_t bytes = parts_of(count * kUnit * sizeof(Number), kPage) * kPage;
            numbers_.reset(static_cast<Number*>(std::aligned_alloc(kPage, bytes)));
            madvise(numbers_.get(), bytes, MADV_HUGEPAGE);
            count_ = count;
        }
        return numbers_.get();
    }

  private:
    std::unique_ptr<Number, Free> numbers_;
    int64_t count_ = 0;
};

}  // namespace

#endif
