// The graphs that are searched: one that is there as a whole, and one that is composed on the way.
//
// All indices in these arrays were checked when they were read (nnet/modelfile).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace decoding {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kNone = -1;

// Files are mapped at any byte, so nothing about alignment may be assumed.
struct __attribute__((packed)) State {
    float final;
    uint32_t first, arcs, input_epsilons, output_epsilons;
};

struct __attribute__((packed)) Arc {
    int32_t ilabel, olabel;
    float weight;
    int32_t next;
};

struct Words {  // from `begin` up to `end`
    int32_t begin, end;
};

extern "C" {

// See cpu.py; `firsts` is null where there is no language model to compose with.
struct GraphArrays {
    int64_t start, states;
    const State* state;
    const Arc* arc;
    const int32_t* pdfs;     // of each input label; -1 if it takes no frame
    const int64_t* firsts;   // (states + 1): intervals of each state
    const Words* intervals;  // words that can be read from it
    int64_t final_label, lm_start, lm_states, labels;
    const int32_t* backoff_states;
    const float* backoff_costs;
    const int32_t* context_words;
    const int64_t* first_children;
    const int64_t* first_words;
    const int32_t* words;
    const float* costs;
    const float* final_costs;
};

}  // extern "C"

// A state is a number; nothing is known of what comes after it.
class StaticGraph {
  public:
    using Key = uint32_t;

    explicit StaticGraph(const GraphArrays& arrays) : arrays_(arrays) {}

    Key start() const { return static_cast<Key>(arrays_.start); }
    float start_potential() const { return 0.0f; }
    int32_t state(Key key) const { return static_cast<int32_t>(key); }
    float final(Key key) const { return arrays_.state[key].final; }

    template <class Visit>
    void expand(Key, float, const Arc& arc, Visit visit) const {
        visit(0.0f, static_cast<Key>(arc.next), 0.0f);
    }

  private:
    const GraphArrays& arrays_;
};

// A graph from transition-ids to words composed with a back-off language model as it is needed.
//
// A state is a pair. Its potential is the cost of all words together that can come next: with it
// paths are pruned before they reach a word, while the costs of paths stay what they are.
class LookaheadGraph {
  public:
    using Key = uint64_t;

    explicit LookaheadGraph(const GraphArrays& arrays)
        : arrays_(arrays),
          sums_(arrays.first_words[arrays.lm_states]),
          totals_(arrays.lm_states, -1.0),
          below_(arrays.labels + 1),
          child_(arrays.labels, kNone),
          without_context_(arrays.states, -1.0),
          cache_bits_(arrays.lm_states > kSmall ? 20 : 14),
          cache_(size_t{1} << cache_bits_, {~Key{0}, 0.0f}) {
        int64_t word = 0;
        const int64_t first = arrays.first_words[0], end = arrays.first_words[1];
        for (int64_t label = 0; label <= arrays.labels; ++label) {
            while (first + word < end && arrays.words[first + word] < label) ++word;
            below_[label] = first + word;
        }
        for (int64_t s = arrays.first_children[0]; s < arrays.first_children[1]; ++s)
            child_[arrays.context_words[s]] = static_cast<int32_t>(s);
    }

    Key start() const { return pair(arrays_.start, arrays_.lm_start); }
    float start_potential() { return potential(start()); }
    int32_t state(Key key) const { return static_cast<int32_t>(key & 0xffffffffu); }

    float final(Key key) const {
        const float own = arrays_.state[state(key)].final;
        if (!(own < kInfinity)) return kInfinity;
        float best = kInfinity, back = 0.0f;
        for (int32_t lm = context(key); lm >= 0; lm = arrays_.backoff_states[lm]) {
            best = std::min(best, back + arrays_.final_costs[lm]);
            if (lm) back += arrays_.backoff_costs[lm];
        }
        return own + best;
    }

    // What one arc leads to: with a word, after each context that has it; a shorter one counts only
    // where the way through the longer one and a later back-off costs more.
    template <class Visit>
    void expand(Key key, float potential_here, const Arc& arc, Visit visit) {
        if (!arc.olabel) {
            const Key next = pair(arc.next, context(key));
            const bool same = same_words(state(key), arc.next);
            const float ahead = same ? potential_here : potential(next);
            if (ahead < kInfinity) visit(0.0f, next, ahead);
            return;
        }
        float back = 0.0f, best = kInfinity;
        int32_t longest = kNone;
        for (int32_t lm = context(key); lm >= 0; lm = arrays_.backoff_states[lm]) {
            const int64_t place = find_word(lm, arc.olabel);
            if (place >= 0) {
                const float cost = back + arrays_.costs[place];
                const int32_t following = next_context(lm, arc.olabel);
                if (!(best + climb(longest, following) <= cost)) {
                    const Key next = pair(arc.next, following);
                    const float ahead = potential(next);
                    if (ahead < kInfinity) visit(cost, next, ahead);
                    if (longest < 0) longest = following, best = cost;
                }
            }
            if (lm) back += arrays_.backoff_costs[lm];
        }
    }

  private:
    static constexpr int64_t kSmall = 10'000;  // states of a language model
    static constexpr int64_t kSearch = 8;  // words that are looked up in the time of an interval

    static Key pair(int64_t state, int64_t lm) {
        return static_cast<Key>(lm) << 32 | static_cast<Key>(state);
    }
    static int32_t context(Key key) { return static_cast<int32_t>(key >> 32); }

    bool same_words(int64_t a, int64_t b) const {
        const int64_t *firsts = arrays_.firsts, count = firsts[a + 1] - firsts[a];
        return count == firsts[b + 1] - firsts[b] &&
               !std::memcmp(arrays_.intervals + firsts[a], arrays_.intervals + firsts[b],
                            count * sizeof(Words));
    }

    float potential(Key key) {
        const size_t place = (key ^ key >> 29) * 0x9E3779B97F4A7C15ull >> (64 - cache_bits_);
        auto& held = cache_[place];
        if (held.key != key) held = {key, compute_potential(state(key), context(key))};
        return held.potential;
    }

    float compute_potential(int32_t state, int32_t lm) {
        double sum = 0.0, back = 1.0;
        for (; lm > 0; lm = arrays_.backoff_states[lm]) {
            sum += back * probability_after(state, lm);
            back *= std::exp(-arrays_.backoff_costs[lm]);
        }
        double& alone = without_context_[state];
        if (!(alone >= 0.0)) alone = probability_after(state, 0);
        sum += back * alone;
        return sum > 0.0 ? static_cast<float>(-std::log(sum)) : kInfinity;
    }

    // Of the words that follow a context and can be read from a state, and of the end.
    double probability_after(int32_t state, int32_t lm) {
        const Words* begin = arrays_.intervals + arrays_.firsts[state];
        const Words* end = arrays_.intervals + arrays_.firsts[state + 1];
        const int64_t first = arrays_.first_words[lm], last = arrays_.first_words[lm + 1];
        const auto ends_before = [](const Words& words, int64_t label) {
            return words.end <= label;
        };
        double sum = 0.0;
        const Words* at = std::lower_bound(begin, end, arrays_.final_label, ends_before);
        if (at < end && at->begin <= arrays_.final_label) sum += std::exp(-arrays_.final_costs[lm]);
        if (last - first < kSearch * (end - begin)) {
            at = begin;
            for (int64_t i = first; i < last; ++i) {
                at = std::lower_bound(at, end, arrays_.words[i], ends_before);
                if (at == end) break;
                if (at->begin <= arrays_.words[i]) sum += between(lm, i, i + 1);
            }
            return sum;
        }
        int64_t from = first;
        for (const Words* words = begin; words < end && from < last; ++words) {
            from = first_from(lm, from, words->begin);
            const int64_t to = first_from(lm, from, words->end);
            sum += between(lm, from, to);
            from = to;
        }
        return sum;
    }

    // The probability of the words after a context, from one place up to another; of each what it
    // has beyond that of backing off.
    double between(int32_t lm, int64_t from, int64_t to) {
        if (!(totals_[lm] >= 0.0)) sum_probabilities(lm);
        const double upto = to < arrays_.first_words[lm + 1] ? sums_[to] : totals_[lm];
        return from < to ? upto - sums_[from] : 0.0;
    }

    void sum_probabilities(int32_t lm) {
        const double back = lm ? std::exp(-arrays_.backoff_costs[lm]) : 0.0;
        double sum = 0.0;
        for (int64_t i = arrays_.first_words[lm]; i < arrays_.first_words[lm + 1]; ++i) {
            sums_[i] = sum;
            const double shorter =
                lm ? back * probability(arrays_.backoff_states[lm], arrays_.words[i]) : 0.0;
            sum += std::max(0.0, std::exp(-arrays_.costs[i]) - shorter);
        }
        totals_[lm] = sum;
    }

    double probability(int32_t lm, int32_t word) const {
        double back = 1.0;
        for (; lm >= 0; lm = arrays_.backoff_states[lm]) {
            const int64_t place = find_word(lm, word);
            if (place >= 0) return back * std::exp(-arrays_.costs[place]);
            if (lm) back *= std::exp(-arrays_.backoff_costs[lm]);
        }
        return 0.0;
    }

    // The first word after a context, from a place on, that is not below a label.
    int64_t first_from(int32_t lm, int64_t from, int32_t label) const {
        if (!lm) return below_[std::clamp<int64_t>(label, 0, arrays_.labels)];
        const int32_t* end = arrays_.words + arrays_.first_words[lm + 1];
        return std::lower_bound(arrays_.words + from, end, label) - arrays_.words;
    }

    int64_t find_word(int32_t lm, int32_t word) const {
        if (word >= arrays_.labels) return kNone;
        const int64_t place = first_from(lm, arrays_.first_words[lm], word);
        const bool found = place < arrays_.first_words[lm + 1] && arrays_.words[place] == word;
        return found ? place : kNone;
    }

    int32_t child_of(int32_t lm, int32_t word) const {
        const int32_t *words = arrays_.context_words, *end = words + arrays_.first_children[lm + 1];
        const int32_t* place = std::lower_bound(words + arrays_.first_children[lm], end, word);
        return place < end && *place == word ? static_cast<int32_t>(place - words) : kNone;
    }

    // The longest context that a word after a context ends with; `word` is below `labels`.
    int32_t next_context(int32_t lm, int32_t word) {
        context_.clear();
        for (; lm > 0; lm = arrays_.backoff_states[lm])
            context_.push_back(arrays_.context_words[lm]);
        int32_t following = child_[word];
        if (following < 0) return 0;
        for (auto label = context_.rbegin(); label != context_.rend(); ++label) {
            const int32_t longer = child_of(following, *label);
            if (longer < 0) break;
            following = longer;
        }
        return following;
    }

    // The cost of backing off from one context to another; infinite if that does not lead there.
    float climb(int32_t from, int32_t to) const {
        float cost = 0.0f;
        for (; from >= to; from = arrays_.backoff_states[from]) {
            if (from == to) return cost;
            cost += arrays_.backoff_costs[from];
        }
        return kInfinity;
    }

    struct Held {
        Key key;
        float potential;
    };

    const GraphArrays& arrays_;
    std::vector<double> sums_;    // of the words of a context before each, once they were asked for
    std::vector<double> totals_;  // of each context; -1 before that
    std::vector<int64_t> below_;  // for each label the first word of no context not below it
    std::vector<int32_t> child_;  // the context of each word alone
    std::vector<double> without_context_;  // for each state, once it was asked for
    int cache_bits_;
    std::vector<Held> cache_;
    std::vector<int32_t> context_;
};

}  // namespace decoding
