// Beam search for the best paths through a graph, with links kept for a lattice.
//
// The search is Kaldi's LatticeFasterDecoder (Povey et al., "Generating exact lattices in the WFST
// framework", 2012); where a graph is composed on the way, beams compare costs with potentials.

#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tokens.h"

namespace decoding {

extern "C" {

// See cpu.py; Kaldi's options of the same names.
struct SearchOptions {
    float beam, lattice_beam, beam_delta, prune_scale;
    int64_t max_active, min_active, prune_interval;
};

}  // extern "C"

enum Status : int64_t { kFine = 0, kNoTokens = 1, kEndless = 2, kCycle = 3 };

struct Step {  // of a path, or of a lattice from `source` to `target`
    int32_t source, target, ilabel, olabel;
    float graph_cost, acoustic_cost;
};

struct Lattice {
    std::vector<Step> arcs;
    std::vector<float> finals;  // of each state
    int64_t start = 0;
};

class Search {
  public:
    virtual ~Search() = default;
    virtual Status start() = 0;
    virtual Status advance(const float* scores, int64_t frames, int64_t pdfs, float scale) = 0;
    virtual int64_t frames() const = 0;
    virtual Status finalize() = 0;
    virtual Status best_path(bool with_final, std::vector<Step>* path, float* final_cost) = 0;
    virtual Status lattice(bool with_final, Lattice* lattice) = 0;
    virtual float final_relative_cost() = 0;
    virtual int64_t tokens() const = 0;
};

template <class Graph>
class BeamSearch final : public Search {
    using Key = typename Graph::Key;
    using Entry = typename Table<Key>::Entry;

  public:
    BeamSearch(const GraphArrays& arrays, const SearchOptions& options)
        : arrays_(arrays), options_(options), graph_(arrays_), has_epsilon_(arrays.states) {
        for (int64_t s = 0; s < arrays.states; ++s) {
            const Arc *arc = first_arc(s), *end = arc + arrays_.state[s].arcs;
            for (; arc < end && !has_epsilon_[s]; ++arc)
                has_epsilon_[s] = arrays_.pdfs[arc->ilabel] < 0;
        }
    }

    Status start() override {
        tokens_.clear(), links_.clear(), present_.clear(), previous_.clear();
        frames_.assign(1, Frame{});
        offsets_.clear();
        finalized_ = false;
        bool is_new;
        const float potential = graph_.start_potential();
        if (!(potential < kInfinity)) return kNoTokens;
        start_ = find_or_add(graph_.start(), 0.0f, potential, kNone, &is_new);
        return through_epsilons(potential + options_.beam);
    }

    Status advance(const float* scores, int64_t frames, int64_t pdfs, float scale) override {
        for (int64_t t = 0; t < frames; ++t) {
            if (this->frames() % options_.prune_interval == 0)
                if (Status status = prune(options_.lattice_beam * options_.prune_scale))
                    return status;
            const float cutoff = through_frame(scores + t * pdfs, scale);
            if (Status status = through_epsilons(cutoff)) return status;
            if (present_.size() == 0) return kNoTokens;
        }
        return kFine;
    }

    int64_t frames() const override { return static_cast<int64_t>(frames_.size()) - 1; }
    int64_t tokens() const override { return static_cast<int64_t>(present_.size()); }

    // Prunes with the final costs; nothing can be added afterwards.
    Status finalize() override {
        if (finalized_) return kFine;
        const int64_t last = frames();
        if (Status status = prune_last()) return status;
        for (int64_t f = last - 1; f >= 0; --f) {
            bool costs_changed, links_pruned;
            if (Status status = prune_links(f, 0.0f, &costs_changed, &links_pruned)) return status;
            remove_tokens(f + 1);
        }
        remove_tokens(0);
        finalized_ = true;
        return kFine;
    }

    Status best_path(bool with_final, std::vector<Step>* path, float* final_cost) override;
    Status lattice(bool with_final, Lattice* lattice) override;

    // How much more the best path that ends costs than the best one; infinite if none ends.
    float final_relative_cost() override {
        float best = kInfinity, best_final = kInfinity;
        for_last([&](const Token<Key>& token) {
            best = std::min(best, token.cost);
            best_final = std::min(best_final, token.cost + graph_.final(token.key));
        });
        return best_final < kInfinity ? best_final - best : kInfinity;
    }

  private:
    struct Frame {
        int32_t tokens = kNone;
        bool must_prune_links = true, must_prune_tokens = true;
    };

    const Arc* first_arc(int64_t state) const { return arrays_.arc + arrays_.state[state].first; }

    template <class Visit>
    void for_last(Visit visit) const {
        for (int32_t t = frames_.back().tokens; t != kNone; t = tokens_[t].next) visit(tokens_[t]);
    }

    bool any_final() {
        bool any = false;
        for_last([&](const Token<Key>& t) { any |= graph_.final(t.key) < kInfinity; });
        return any;
    }

    int32_t find_or_add(Key key, float cost, float potential, int32_t back, bool* changed) {
        int32_t& number = present_.token(key);
        *changed = true;
        if (number == kNone) {
            Frame& frame = frames_.back();
            number = tokens_.add({key, cost, potential, 0.0f, frame.tokens, kNone, back});
            frame.tokens = number;
        } else if (tokens_[number].cost > cost) {
            tokens_[number].cost = cost;
            tokens_[number].back = back;
        } else {
            *changed = false;
        }
        return number;
    }

    void add_link(int32_t token, int32_t target, const Arc& arc, float graph, float acoustic) {
        const int32_t next = tokens_[token].links;
        tokens_[token].links = links_.add({target, next, arc.ilabel, arc.olabel, graph, acoustic});
    }

    float total(const Entry& entry) const {
        return tokens_[entry.token].cost + tokens_[entry.token].potential;
    }

    // Up to which cost tokens are kept, and the beam that this amounts to (Kaldi's GetCutoff).
    float cutoff(const std::vector<Entry>& entries, float* beam, const Entry** best) {
        costs_.clear();
        float least = kInfinity;
        for (const Entry& entry : entries) {
            const float cost = total(entry);
            costs_.push_back(cost);
            if (cost < least) least = cost, *best = &entry;
        }
        const float by_beam = least + options_.beam;
        const size_t most = options_.max_active, fewest = options_.min_active;
        *beam = options_.beam;
        auto end = costs_.end();
        if (costs_.size() > most) {
            end = costs_.begin() + most;
            std::nth_element(costs_.begin(), end, costs_.end());
            if (*end < by_beam) {
                *beam = *end - least + options_.beam_delta;
                return *end;
            }
        }
        if (costs_.size() > fewest && fewest > 0) {
            std::nth_element(costs_.begin(), costs_.begin() + fewest, end);
            if (costs_[fewest] > by_beam) {
                *beam = costs_[fewest] - least + options_.beam_delta;
                return costs_[fewest];
            }
        }
        return by_beam;
    }

    // Arcs that take a frame (Kaldi's ProcessEmitting); returns the next cutoff.
    float through_frame(const float* scores, float scale) {
        previous_.swap(present_);
        present_.clear();
        frames_.emplace_back();
        const Entry* best = nullptr;
        float beam = 0.0f, next_cutoff = kInfinity;
        const float limit = cutoff(previous_.entries(), &beam, &best);
        const float offset = best ? -total(*best) : 0.0f;
        offsets_.push_back(offset);
        const auto each = [&](const Entry& entry, auto take) {
            const Token<Key> token = tokens_[entry.token];
            const int32_t state = graph_.state(entry.key);
            const Arc *arc = first_arc(state), *end = arc + arrays_.state[state].arcs;
            for (; arc < end; ++arc) {
                const int32_t pdf = arrays_.pdfs[arc->ilabel];
                if (pdf < 0) continue;
                const float acoustic = offset - scale * scores[pdf];
                const float cost = token.cost + acoustic + arc->weight;
                if (!(cost + token.potential < next_cutoff)) continue;
                graph_.expand(entry.key, token.potential, *arc,
                              [&](float more, Key next, float potential) {
                                  const float total = cost + more + potential;
                                  if (!(total < next_cutoff)) return;
                                  next_cutoff = std::min(next_cutoff, total + beam);
                                  take(*arc, cost + more, more, acoustic, next, potential);
                              });
            }
        };
        if (best) each(*best, [](auto&&...) {});
        for (const Entry& entry : previous_.entries()) {
            if (!(total(entry) <= limit)) continue;
            each(entry, [&](const Arc& arc, float cost, float more, float acoustic, Key next,
                            float potential) {
                bool changed;
                const int32_t target = find_or_add(next, cost, potential, entry.token, &changed);
                add_link(entry.token, target, arc, arc.weight + more, acoustic);
            });
        }
        return next_cutoff;
    }

    // Arcs that take no frame (Kaldi's ProcessNonemitting).
    Status through_epsilons(float limit) {
        queue_.clear();
        for (const Entry& entry : present_.entries())
            if (has_epsilon_[graph_.state(entry.key)]) queue_.push_back(entry.token);
        int64_t left = kMostVisits;
        while (!queue_.empty()) {
            if (!left--) return kEndless;
            const int32_t number = queue_.back();
            queue_.pop_back();
            const Token<Key> token = tokens_[number];
            if (!(token.cost + token.potential < limit)) continue;
            remove_links(number);
            const int32_t state = graph_.state(token.key);
            const Arc *arc = first_arc(state), *end = arc + arrays_.state[state].arcs;
            for (; arc < end; ++arc) {
                if (arrays_.pdfs[arc->ilabel] >= 0) continue;
                const float cost = token.cost + arc->weight;
                if (!(cost + token.potential < limit)) continue;
                graph_.expand(token.key, token.potential, *arc,
                              [&](float more, Key next, float potential) {
                                  if (!(cost + more + potential < limit)) return;
                                  bool changed;
                                  const int32_t target =
                                      find_or_add(next, cost + more, potential, number, &changed);
                                  add_link(number, target, *arc, arc->weight + more, 0.0f);
                                  if (changed && has_epsilon_[graph_.state(next)])
                                      queue_.push_back(target);
                              });
            }
        }
        return kFine;
    }

    void remove_links(int32_t token) {
        for (int32_t l = tokens_[token].links; l != kNone; l = links_[l].next) links_.remove(l);
        tokens_[token].links = kNone;
    }

    // The least extra cost over a token's links; links above the lattice's beam are removed.
    float prune_token(Token<Key>& token, float extra, bool* links_pruned) {
        int32_t* place = &token.links;
        while (*place != kNone) {
            Link& link = links_[*place];
            const Token<Key>& target = tokens_[link.target];
            const float more = target.extra_cost +
                               (token.cost + link.acoustic_cost + link.graph_cost - target.cost);
            if (!(more <= options_.lattice_beam)) {
                const int32_t removed = *place;
                *place = link.next;
                links_.remove(removed);
                *links_pruned = true;
                continue;
            }
            extra = std::min(extra, std::max(more, 0.0f));
            place = &link.next;
        }
        return extra;
    }

    Status prune_links(int64_t f, float delta, bool* costs_changed, bool* links_pruned) {
        *costs_changed = *links_pruned = false;
        bool changed = true;
        for (int64_t left = kMostRounds; changed; --left) {
            if (!left) return kEndless;
            changed = false;
            for (int32_t t = frames_[f].tokens; t != kNone; t = tokens_[t].next) {
                Token<Key>& token = tokens_[t];
                const float extra = prune_token(token, kInfinity, links_pruned);
                if (std::fabs(extra - token.extra_cost) > delta) changed = true;
                token.extra_cost = extra;
            }
            *costs_changed |= changed;
        }
        return kFine;
    }

    // Links of the last frame, with the final costs if any token is final.
    Status prune_last() {
        const bool has_final = any_final();
        float best = kInfinity;
        const auto final_cost = [&](const Token<Key>& t) {
            return has_final ? graph_.final(t.key) : 0.0f;
        };
        for_last([&](const Token<Key>& t) { best = std::min(best, t.cost + final_cost(t)); });
        bool changed = true, pruned = false;
        for (int64_t left = kMostRounds; changed; --left) {
            if (!left) return kEndless;
            changed = false;
            for (int32_t t = frames_.back().tokens; t != kNone; t = tokens_[t].next) {
                Token<Key>& token = tokens_[t];
                float extra = prune_token(token, token.cost + final_cost(token) - best, &pruned);
                if (!(extra <= options_.lattice_beam)) extra = kInfinity;
                if (extra != token.extra_cost) changed = true;
                token.extra_cost = extra;
            }
        }
        return kFine;
    }

    void remove_tokens(int64_t f) {
        int32_t* place = &frames_[f].tokens;
        while (*place != kNone) {
            Token<Key>& token = tokens_[*place];
            if (token.extra_cost < kInfinity) {
                place = &token.next;
                continue;
            }
            const int32_t removed = *place;
            *place = token.next;
            remove_links(removed);
            tokens_.remove(removed);
        }
    }

    // Kaldi's PruneActiveTokens.
    Status prune(float delta) {
        for (int64_t f = frames() - 1; f >= 0; --f) {
            if (frames_[f].must_prune_links) {
                bool costs_changed, links_pruned;
                if (Status status = prune_links(f, delta, &costs_changed, &links_pruned))
                    return status;
                if (costs_changed && f > 0) frames_[f - 1].must_prune_links = true;
                if (links_pruned) frames_[f].must_prune_tokens = true;
                frames_[f].must_prune_links = false;
            }
            if (f + 1 < frames() && frames_[f + 1].must_prune_tokens) {
                remove_tokens(f + 1);
                frames_[f + 1].must_prune_tokens = false;
            }
        }
        return kFine;
    }

    Status order(int64_t f, std::vector<int32_t>* numbers, int32_t* count);

    static constexpr int64_t kMostVisits = 20'000'000, kMostRounds = 1000;

    const GraphArrays arrays_;
    const SearchOptions options_;
    Graph graph_;
    std::vector<uint8_t> has_epsilon_;
    Pool<Token<Key>> tokens_;
    Pool<Link> links_;
    Table<Key> present_, previous_;
    std::vector<Frame> frames_;   // the tokens before the first frame, and after each
    std::vector<float> offsets_;  // added to the acoustic costs of each frame
    std::vector<float> costs_;
    std::vector<int32_t> queue_;
    int32_t start_ = kNone;
    bool finalized_ = false;
};

}  // namespace decoding
