// Tokens of a search, the links between them, and the table of those at the present frame.

#pragma once

#include <cstdint>
#include <vector>

#include "graphs.h"

namespace decoding {

// A link to a token of this frame (no frame is taken) or of the next one.
struct Link {
    int32_t target, next;  // token; the next link of the same token
    int32_t ilabel, olabel;
    float graph_cost, acoustic_cost;
};

template <class Key>
struct Token {
    Key key;
    float cost;        // of the cheapest path to here, after the frames' offsets
    float potential;   // what is known to come at least
    float extra_cost;  // how much more the cheapest path through here costs than the best path
    int32_t next;      // the next token of the frame
    int32_t links;     // the first link from here
    int32_t back;      // the token that the cheapest path comes from
};

// Items that are given numbers, and whose numbers are used again.
template <class T>
class Pool {
  public:
    int32_t add(const T& item) {
        if (free_.empty()) {
            items_.push_back(item);
            return static_cast<int32_t>(items_.size()) - 1;
        }
        const int32_t number = free_.back();
        free_.pop_back();
        items_[number] = item;
        return number;
    }
    void remove(int32_t number) { free_.push_back(number); }
    void clear() { items_.clear(), free_.clear(); }
    size_t size() const { return items_.size() - free_.size(); }
    size_t capacity() const { return items_.size(); }
    T& operator[](int32_t number) { return items_[number]; }
    const T& operator[](int32_t number) const { return items_[number]; }

  private:
    std::vector<T> items_;
    std::vector<int32_t> free_;
};

// The tokens of one frame by state (open addressing), and in the order in which they came.
template <class Key>
class Table {
  public:
    struct Entry {
        Key key;
        int32_t token;
    };

    Table() : places_(1 << 12, kNone) {}

    const std::vector<Entry>& entries() const { return entries_; }
    size_t size() const { return entries_.size(); }

    // Where the token of a state is or is to be put; kNone if it is new.
    int32_t& token(Key key) {
        if (2 * entries_.size() >= places_.size()) grow();
        size_t place = hash(key);
        while (places_[place] != kNone) {
            Entry& entry = entries_[places_[place]];
            if (entry.key == key) return entry.token;
            place = (place + 1) & (places_.size() - 1);
        }
        places_[place] = static_cast<int32_t>(entries_.size());
        entries_.push_back({key, kNone});
        return entries_.back().token;
    }

    void clear() {
        if (8 * entries_.size() < places_.size()) {
            for (const Entry& entry : entries_) {
                size_t place = hash(entry.key);
                while (places_[place] != kNone && entries_[places_[place]].key != entry.key)
                    place = (place + 1) & (places_.size() - 1);
                cleared_.push_back(place);
            }
            for (size_t place : cleared_) places_[place] = kNone;
            cleared_.clear();
        } else {
            std::fill(places_.begin(), places_.end(), kNone);
        }
        entries_.clear();
    }

    void swap(Table& other) {
        entries_.swap(other.entries_);
        places_.swap(other.places_);
    }

  private:
    size_t hash(Key key) const {
        const uint64_t mixed = (static_cast<uint64_t>(key) ^ static_cast<uint64_t>(key) >> 31) *
                               0x9E3779B97F4A7C15ull;
        return (mixed >> 32 ^ mixed >> 15) & (places_.size() - 1);
    }

    void grow() {
        places_.assign(4 * places_.size(), kNone);
        for (size_t i = 0; i < entries_.size(); ++i) {
            size_t place = hash(entries_[i].key);
            while (places_[place] != kNone) place = (place + 1) & (places_.size() - 1);
            places_[place] = static_cast<int32_t>(i);
        }
    }

    std::vector<Entry> entries_;
    std::vector<int32_t> places_;
    std::vector<size_t> cleared_;
};

}  // namespace decoding
