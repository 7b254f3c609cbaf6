// What Python asks of the library itself; see native.py.

#include "native.h"

#include "matrix_units.h"
#include "native_rows.h"

NNET_LAYOUT(Team, parallel, barrier, thread, threads)
NNET_LAYOUT(RowAddresses, data, time, batch)

extern "C" {

Team nnet_team = {};

void set_team(const Team* team) { nnet_team = *team; }

// Whether there is code for x86's matrix units, and the processor and the system have them.
int64_t has_units() {
#ifdef NNET_MATRIX_UNITS
    return has_matrix_units();
#else
    return 0;
#endif
}

}  // extern "C"
