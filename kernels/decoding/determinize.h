// Determinization by words of a lattice with transition-ids, with pruning.
//
// Subsets of states with the costs and the transition-ids that each still owes (Povey et al.,
// "Generating exact lattices in the WFST framework", 2012): of the paths of a sequence of words the
// cheapest is kept. The lattice's states are in topological order.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <queue>
#include <unordered_map>
#include <vector>

namespace decoding {

extern "C" {

// See determinization.py.
struct LatticeArrays {
    int64_t start, states;
    const int64_t* offsets;
    const int32_t *words, *transitions, *nextstates;
    const float *graph_costs, *acoustic_costs, *finals;
    double acoustic_scale, beam;
    int64_t most_arcs;
};

struct CompactArc {
    int32_t source, target, word, length;  // of the string of transition-ids
    float graph_cost, acoustic_cost;
};

}  // extern "C"

constexpr double kNever = std::numeric_limits<double>::infinity();

struct Cost {
    double graph = 0.0, acoustic = 0.0;
    Cost plus(double g, double a) const { return {graph + g, acoustic + a}; }
};

// Sequences of transition-ids as the nodes of a trie; 0 is the empty one.
class Strings {
  public:
    int32_t append(int32_t string, int32_t label) {
        const uint64_t key = static_cast<uint64_t>(string) << 32 | static_cast<uint32_t>(label);
        const auto [place, is_new] = nodes_.try_emplace(key, nodes_.size() + 1);
        if (is_new) node_.push_back({string, label, length(string) + 1});
        return place->second;
    }
    int32_t length(int32_t string) const { return string ? node_[string - 1].length : 0; }
    std::vector<int32_t> labels(int32_t string) const {
        std::vector<int32_t> labels(length(string));
        for (auto place = labels.rbegin(); string; string = node_[string - 1].parent)
            *place++ = node_[string - 1].label;
        return labels;
    }
    int32_t without_first(int32_t string, int32_t count) {
        if (!count) return string;
        int32_t rest = 0;
        const std::vector<int32_t> all = labels(string);
        for (size_t i = count; i < all.size(); ++i) rest = append(rest, all[i]);
        return rest;
    }
    // How many labels two strings begin with that are the same.
    int32_t common(int32_t a, int32_t b, int32_t most) const {
        while (length(a) > most) a = node_[a - 1].parent;
        while (length(b) > length(a)) b = node_[b - 1].parent;
        while (length(a) > length(b)) a = node_[a - 1].parent;
        while (a != b) a = node_[a - 1].parent, b = node_[b - 1].parent;
        return length(a);
    }

  private:
    struct Node {
        int32_t parent, label, length;
    };
    std::vector<Node> node_;
    std::unordered_map<uint64_t, int32_t> nodes_;
};

class Determinizer {
  public:
    explicit Determinizer(const LatticeArrays& lattice) : lattice_(lattice) {}

    // Whether the result has no more arcs than it may have.
    bool run();

    std::vector<CompactArc> arcs;      // target -1: the final cost of a state
    std::vector<int32_t> transitions;  // of their strings, one after the other

    int64_t states() const { return static_cast<int64_t>(states_.size()); }

  private:
    struct Element {
        int32_t string = 0;
        Cost cost;
    };
    using Subset = std::map<int32_t, Element>;  // by state

    struct State {
        Subset subset;
        double forward;  // the cheapest way from the start
        bool done = false;
    };

    double total(const Cost& cost) const {
        return cost.graph + lattice_.acoustic_scale * cost.acoustic;
    }

    void find_backward();
    void close(Subset* subset);
    bool is_kept(int32_t state) const;
    double priority(const Subset& subset) const;
    int32_t enter(Subset subset, double forward, Cost* cost, int32_t* string);
    void improve(Subset* subset, int32_t state, int32_t string, const Cost& cost) const;
    Cost normalize(Subset* subset, int32_t* prefix);
    void expand(int32_t number);
    void add(int32_t source, int32_t target, int32_t word, const Cost& cost, int32_t string);

    const LatticeArrays lattice_;
    std::vector<double> backward_;
    double cutoff_ = kNever;
    Strings strings_;
    std::vector<State> states_;
    std::map<std::vector<int64_t>, int32_t> numbers_;
    std::priority_queue<std::pair<double, int32_t>> queue_;
};

}  // namespace decoding
