// Beam search as functions of C; see cpu.py.

#include <memory>

#include "lattice.h"
#include "native.h"

using namespace decoding;

NNET_LAYOUT(GraphArrays, start, states, state, arc, pdfs, firsts, intervals, final_label, lm_start,
            lm_states, labels, backoff_states, backoff_costs, context_words, first_children,
            first_words, words, costs, final_costs)
NNET_LAYOUT(SearchOptions, beam, lattice_beam, beam_delta, prune_scale, max_active, min_active,
            prune_interval)

namespace {

struct Handle {
    std::unique_ptr<Search> search;
    std::vector<Step> path;
    Lattice lattice;
};

}  // namespace

extern "C" {

void* search_new(const GraphArrays* arrays, const SearchOptions* options) {
    auto handle = std::make_unique<Handle>();
    if (arrays->firsts)
        handle->search = std::make_unique<BeamSearch<LookaheadGraph>>(*arrays, *options);
    else
        handle->search = std::make_unique<BeamSearch<StaticGraph>>(*arrays, *options);
    return handle.release();
}

void search_delete(void* handle) { delete static_cast<Handle*>(handle); }

int64_t search_start(void* handle) { return static_cast<Handle*>(handle)->search->start(); }

int64_t search_advance(void* handle, const float* scores, int64_t frames, int64_t pdfs,
                       float scale) {
    return static_cast<Handle*>(handle)->search->advance(scores, frames, pdfs, scale);
}

int64_t search_finalize(void* handle) { return static_cast<Handle*>(handle)->search->finalize(); }

int64_t search_tokens(void* handle) { return static_cast<Handle*>(handle)->search->tokens(); }

float search_final_relative_cost(void* handle) {
    return static_cast<Handle*>(handle)->search->final_relative_cost();
}

// The number of steps of the best path, or minus the status; search_copy_path gives them.
int64_t search_best_path(void* handle, int64_t with_final, float* final_cost) {
    auto* own = static_cast<Handle*>(handle);
    const Status status = own->search->best_path(with_final, &own->path, final_cost);
    return status ? -status : static_cast<int64_t>(own->path.size());
}

void search_copy_path(void* handle, Step* path) {
    const auto& own = static_cast<Handle*>(handle)->path;
    std::copy(own.begin(), own.end(), path);
}

// sizes: states, arcs, start.
int64_t search_lattice(void* handle, int64_t with_final, int64_t* sizes) {
    auto* own = static_cast<Handle*>(handle);
    const Status status = own->search->lattice(with_final, &own->lattice);
    sizes[0] = static_cast<int64_t>(own->lattice.finals.size());
    sizes[1] = static_cast<int64_t>(own->lattice.arcs.size());
    sizes[2] = own->lattice.start;
    return status;
}

void search_copy_lattice(void* handle, Step* arcs, float* finals) {
    const Lattice& own = static_cast<Handle*>(handle)->lattice;
    std::copy(own.arcs.begin(), own.arcs.end(), arcs);
    std::copy(own.finals.begin(), own.finals.end(), finals);
}

}  // extern "C"
