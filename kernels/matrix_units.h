// x86's matrix units (AMX) for bfloat16: their registers, and whether they can be used.

#pragma once

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#define NNET_MATRIX_UNITS

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace {

using Number = uint16_t;  // bfloat16

constexpr int kSide = 16;              // rows and columns of a register
constexpr int kStep = 32;              // products that are added up at once
constexpr int kPiece = kSide * kStep;  // numbers in a register

// All eight registers whole.
struct alignas(64) Configuration {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};

    Configuration() {
        for (int i = 0; i < 8; ++i) bytes[i] = 64, rows[i] = kSide;
    }
};

// While it lives, this thread uses the units.
class MatrixUnits {
  public:
    MatrixUnits() {
        const Configuration configuration;
        _tile_loadconfig(&configuration);
    }
    ~MatrixUnits() { _tile_release(); }
};

// Whether the processor has the units and the system lets this process use them.
inline bool has_matrix_units() {
    constexpr long request = 0x1023, tiles = 18;
    return syscall(SYS_arch_prctl, request, tiles) == 0;
}

}  // namespace

#endif
