// Determinization of lattices; see determinize.h and determinization.py.

#include "determinize.h"

#include <memory>

#include "native.h"

using decoding::LatticeArrays;

NNET_LAYOUT(LatticeArrays, start, states, offsets, words, transitions, nextstates, graph_costs,
            acoustic_costs, finals, acoustic_scale, beam, most_arcs)

namespace decoding {

namespace {

constexpr double kDelta = 1.0 / 1024;  // costs that differ by less count as the same
constexpr double kSlack = 1e-4;

}  // namespace

// The cheapest way from each state to an end, and what a path may cost at most.
void Determinizer::find_backward() {
    backward_.assign(lattice_.states, kNever);
    for (int64_t s = lattice_.states - 1; s >= 0; --s) {
        backward_[s] = lattice_.finals[s];
        for (int64_t i = lattice_.offsets[s]; i < lattice_.offsets[s + 1]; ++i) {
            const Cost cost{lattice_.graph_costs[i], lattice_.acoustic_costs[i]};
            backward_[s] = std::min(backward_[s], total(cost) + backward_[lattice_.nextstates[i]]);
        }
    }
    cutoff_ = backward_[lattice_.start] + lattice_.beam + kSlack;
}

void Determinizer::improve(Subset* subset, int32_t state, int32_t string, const Cost& cost) const {
    const auto [place, is_new] = subset->try_emplace(state, Element{string, cost});
    if (!is_new && total(cost) < total(place->second.cost)) place->second = {string, cost};
}

// Adds what is reached without a word, and leaves out states from which only that goes on.
void Determinizer::close(Subset* subset) {
    for (auto place = subset->begin(); place != subset->end();) {
        const auto [state, element] = *place;
        for (int64_t i = lattice_.offsets[state]; i < lattice_.offsets[state + 1]; ++i) {
            if (lattice_.words[i] || !(backward_[lattice_.nextstates[i]] < kNever)) continue;
            const int32_t label = lattice_.transitions[i];
            const int32_t string =
                label ? strings_.append(element.string, label) : element.string;
            improve(subset, lattice_.nextstates[i], string,
                    element.cost.plus(lattice_.graph_costs[i], lattice_.acoustic_costs[i]));
        }
        place = is_kept(state) ? std::next(place) : subset->erase(place);
    }
}

bool Determinizer::is_kept(int32_t state) const {
    if (lattice_.finals[state] < kNever) return true;
    const auto *begin = lattice_.words + lattice_.offsets[state],
               *end = lattice_.words + lattice_.offsets[state + 1];
    return std::any_of(begin, end, [](int32_t word) { return word != 0; });
}

double Determinizer::priority(const Subset& subset) const {
    double least = kNever;
    for (const auto& [state, element] : subset)
        least = std::min(least, total(element.cost) + backward_[state]);
    return least;
}

// Takes out of all elements what they have in common.
Cost Determinizer::normalize(Subset* subset, int32_t* prefix) {
    const Element* best = nullptr;
    for (const auto& [state, element] : *subset)
        if (!best || total(element.cost) < total(best->cost)) best = &element;
    const Cost taken = best->cost;
    int32_t count = strings_.length(best->string);
    const std::vector<int32_t> labels = strings_.labels(best->string);
    for (const auto& [state, element] : *subset)
        count = strings_.common(best->string, element.string, count);
    for (int32_t i = 0; i < count; ++i) *prefix = strings_.append(*prefix, labels[i]);
    for (auto& [state, element] : *subset) {
        element.cost = element.cost.plus(-taken.graph, -taken.acoustic);
        element.string = strings_.without_first(element.string, count);
    }
    return taken;
}

// The state of a subset after a forward cost; `cost` and `string` are what the arc to it has.
int32_t Determinizer::enter(Subset subset, double forward, Cost* cost, int32_t* string) {
    close(&subset);
    *string = 0;
    *cost = normalize(&subset, string);
    forward += total(*cost);
    std::vector<int64_t> key;
    for (const auto& [state, element] : subset) {
        key.push_back(static_cast<int64_t>(state) << 32 | element.string);
        key.push_back(std::llround(element.cost.graph / kDelta));
        key.push_back(std::llround(element.cost.acoustic * lattice_.acoustic_scale / kDelta));
    }
    const double ahead = priority(subset);
    const auto [place, is_new] = numbers_.try_emplace(std::move(key), states_.size());
    if (is_new) {
        states_.push_back({std::move(subset), forward});
        queue_.push({-(forward + ahead), place->second});
    } else if (State& old = states_[place->second]; forward < old.forward && !old.done) {
        old.forward = forward;
        queue_.push({-(forward + ahead), place->second});
    }
    return place->second;
}

void Determinizer::add(int32_t source, int32_t target, int32_t word, const Cost& cost,
                       int32_t string) {
    const std::vector<int32_t> labels = strings_.labels(string);
    transitions.insert(transitions.end(), labels.begin(), labels.end());
    arcs.push_back({source, target, word, static_cast<int32_t>(labels.size()),
                    static_cast<float>(cost.graph), static_cast<float>(cost.acoustic)});
}

void Determinizer::expand(int32_t number) {
    const double forward = states_[number].forward;
    std::map<int32_t, Subset> by_word;
    Element last;
    double least = kNever;
    for (const auto& [state, element] : states_[number].subset) {
        const double final = lattice_.finals[state];
        if (total(element.cost) + final < least) {
            least = total(element.cost) + final;
            last = {element.string, element.cost.plus(final, 0.0)};
        }
        for (int64_t i = lattice_.offsets[state]; i < lattice_.offsets[state + 1]; ++i) {
            if (!lattice_.words[i] || !(backward_[lattice_.nextstates[i]] < kNever)) continue;
            const int32_t label = lattice_.transitions[i];
            const int32_t string =
                label ? strings_.append(element.string, label) : element.string;
            improve(&by_word[lattice_.words[i]], lattice_.nextstates[i], string,
                    element.cost.plus(lattice_.graph_costs[i], lattice_.acoustic_costs[i]));
        }
    }
    if (forward + least <= cutoff_) add(number, -1, 0, last.cost, last.string);
    for (auto& [word, subset] : by_word) {
        if (forward + priority(subset) > cutoff_) continue;
        Cost cost;
        int32_t string;
        const int32_t target = enter(std::move(subset), forward, &cost, &string);
        add(number, target, word, cost, string);
    }
}

bool Determinizer::run() {
    if (lattice_.start < 0) return true;
    find_backward();
    if (!(cutoff_ < kNever)) return true;
    Subset first;
    first[static_cast<int32_t>(lattice_.start)] = {};
    close(&first);  // nothing is taken out of it, as no arc leads to it that could have it
    states_.push_back({std::move(first), 0.0});
    queue_.push({0.0, 0});
    while (!queue_.empty()) {
        const int32_t number = queue_.top().second;
        queue_.pop();
        if (states_[number].done) continue;
        states_[number].done = true;
        expand(number);
        if (static_cast<int64_t>(arcs.size()) > lattice_.most_arcs) return false;
    }
    return true;
}

}  // namespace decoding

extern "C" {

using decoding::Determinizer;

// sizes: states, arcs, transition-ids, whether it is complete.
void* determinize_new(const decoding::LatticeArrays* lattice, int64_t* sizes) {
    auto result = std::make_unique<Determinizer>(*lattice);
    sizes[3] = result->run();
    sizes[0] = result->states();
    sizes[1] = static_cast<int64_t>(result->arcs.size());
    sizes[2] = static_cast<int64_t>(result->transitions.size());
    return result.release();
}

// Gives the result and forgets it.
void determinize_take(void* handle, decoding::CompactArc* arcs, int32_t* transitions) {
    const std::unique_ptr<Determinizer> result(static_cast<Determinizer*>(handle));
    std::copy(result->arcs.begin(), result->arcs.end(), arcs);
    std::copy(result->transitions.begin(), result->transitions.end(), transitions);
}

}  // extern "C"
