// What a search has found: its best path, and the lattice of all paths near it.

#pragma once

#include "search.h"

namespace decoding {

// The steps from the start to the best last token; empty where none is left.
template <class Graph>
Status BeamSearch<Graph>::best_path(bool with_final, std::vector<Step>* path, float* final_cost) {
    path->clear();
    const bool ends = with_final && any_final();
    int32_t best = kNone;
    float least = kInfinity;
    for (int32_t t = frames_.back().tokens; t != kNone; t = tokens_[t].next) {
        const auto& token = tokens_[t];
        const float cost = token.cost + (ends ? graph_.final(token.key) : token.potential);
        if (cost < least) least = cost, best = t;
    }
    if (best == kNone) return kNoTokens;
    *final_cost = ends ? graph_.final(tokens_[best].key) : 0.0f;
    int64_t frame = frames();
    for (int32_t t = best, back; (back = tokens_[t].back) != kNone; t = back) {
        const Link* cheapest = nullptr;
        for (int32_t l = tokens_[back].links; l != kNone; l = links_[l].next) {
            const Link& link = links_[l];
            if (link.target == t &&
                (!cheapest || link.graph_cost + link.acoustic_cost <
                                  cheapest->graph_cost + cheapest->acoustic_cost))
                cheapest = &link;
        }
        if (!cheapest || path->size() > static_cast<size_t>(kMostVisits)) return kCycle;
        const bool takes_frame = arrays_.pdfs[cheapest->ilabel] >= 0;
        const float offset = takes_frame ? offsets_[--frame] : 0.0f;
        path->push_back({0, 0, takes_frame ? cheapest->ilabel : 0, cheapest->olabel,
                         cheapest->graph_cost, cheapest->acoustic_cost - offset});
    }
    std::reverse(path->begin(), path->end());
    return kFine;
}

// Numbers a frame's tokens such that links within it lead to higher ones.
template <class Graph>
Status BeamSearch<Graph>::order(int64_t f, std::vector<int32_t>* numbers, int32_t* count) {
    constexpr int32_t kOpen = -2;
    struct Call {
        int32_t token, link;
    };
    std::vector<int32_t> finished;
    std::vector<Call> calls;
    const auto within = [&](const Link& link) { return arrays_.pdfs[link.ilabel] < 0; };
    for (int32_t root = frames_[f].tokens; root != kNone; root = tokens_[root].next) {
        if ((*numbers)[root] != kNone) continue;
        calls.push_back({root, tokens_[root].links});
        (*numbers)[root] = kOpen;
        while (!calls.empty()) {
            Call& call = calls.back();
            if (call.link == kNone) {
                (*numbers)[call.token] = static_cast<int32_t>(finished.size());
                finished.push_back(call.token);
                calls.pop_back();
                continue;
            }
            const Link& link = links_[call.link];
            call.link = link.next;
            if (!within(link)) continue;
            if ((*numbers)[link.target] == kOpen) return kCycle;
            if ((*numbers)[link.target] != kNone) continue;
            (*numbers)[link.target] = kOpen;
            calls.push_back({link.target, tokens_[link.target].links});
        }
    }
    const int32_t last = *count + static_cast<int32_t>(finished.size()) - 1;
    for (int32_t t : finished) (*numbers)[t] = last - (*numbers)[t];
    *count = last + 1;
    return kFine;
}

// All tokens as states and all links as arcs, in topological order.
template <class Graph>
Status BeamSearch<Graph>::lattice(bool with_final, Lattice* lattice) {
    const bool ends = with_final && any_final();
    std::vector<int32_t> numbers(tokens_.capacity(), kNone);
    int32_t count = 0;
    for (int64_t f = 0; f <= frames(); ++f) {
        if (frames_[f].tokens == kNone) return kNoTokens;
        if (Status status = order(f, &numbers, &count)) return status;
    }
    lattice->arcs.clear();
    lattice->finals.assign(count, kInfinity);
    lattice->start = numbers[start_];
    for (int64_t f = 0; f <= frames(); ++f) {
        for (int32_t t = frames_[f].tokens; t != kNone; t = tokens_[t].next) {
            for (int32_t l = tokens_[t].links; l != kNone; l = links_[l].next) {
                const Link& link = links_[l];
                const bool takes_frame = arrays_.pdfs[link.ilabel] >= 0;
                lattice->arcs.push_back(
                    {numbers[t], numbers[link.target], takes_frame ? link.ilabel : 0, link.olabel,
                     link.graph_cost, link.acoustic_cost - (takes_frame ? offsets_[f] : 0.0f)});
            }
        }
    }
    for (int32_t t = frames_.back().tokens; t != kNone; t = tokens_[t].next)
        lattice->finals[numbers[t]] = ends ? graph_.final(tokens_[t].key) : 0.0f;
    return kFine;
}

}  // namespace decoding
