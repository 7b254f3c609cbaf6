// What all C++ of the kernels shares: torch's threads, and the layouts of structures; see native.py.

#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

// Functions of the OpenMP library that torch computes with. Python hands over the loaded ones, so
// that our threads are torch's: a second set of threads would fight with them over the cores.
struct Team {
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
    void (*barrier)();
    int (*thread)();
    int (*threads)();
};

extern "C" __attribute__((visibility("hidden"))) Team nnet_team;  // null: one thread

namespace {

// Calls work(thread, threads) in each of so many threads, or of fewer if the library has no more.
template <class Work>
void in_team(int64_t threads, const Work& work) {
    if (threads < 2 || !nnet_team.parallel) {
        work(int64_t{0}, int64_t{1});
        return;
    }
    const auto run = [](void* given) {
        const Work& work = *static_cast<const Work*>(given);
        work(int64_t{nnet_team.thread()}, int64_t{nnet_team.threads()});
    };
    nnet_team.parallel(run, const_cast<Work*>(&work), static_cast<unsigned>(threads), 0);
}

// Waits for the other threads of `in_team`.
inline void wait_for_team(int64_t threads) {
    if (threads > 1) nnet_team.barrier();
}

// Calls work(i) for 0 <= i < count, shared out evenly among the threads of `in_team`.
template <class Work>
void share(int64_t count, int64_t thread, int64_t threads, const Work& work) {
    const int64_t end = count * (thread + 1) / threads;
    for (int64_t i = count * thread / threads; i < end; ++i) work(i);
}

// The same, in as many threads.
template <class Work>
void in_parallel(int64_t count, int64_t threads, const Work& work) {
    in_team(threads, [&](int64_t thread, int64_t all) { share(count, thread, all, work); });
}

}  // namespace

// A member of a structure, for Python to compare with its own declaration.
struct Member {
    const char* name;
    int64_t offset, size;
    char kind;  // pointer, integer, floating, structure
};

template <class T>
constexpr char kind_of() {
    return std::is_pointer_v<T>          ? 'p'
           : std::is_integral_v<T>       ? 'i'
           : std::is_floating_point_v<T> ? 'f'
                                         : 's';
}

// NNET_LAYOUT(Name, member, ...) exports the layout of a structure as layout_Name. The macros below
// it apply one to each member: each scan of EXPAND takes one step of the recursion.
#define NNET_MEMBER(NAME, MEMBER)                                \
    {#MEMBER, offsetof(NAME, MEMBER), sizeof(NAME::MEMBER), \
     kind_of<decltype(NAME::MEMBER)>()},
#define NNET_LAYOUT(NAME, ...)                                                 \
    extern "C" {                                                               \
    extern const Member layout_##NAME[];                                       \
    const Member layout_##NAME[] = {                                           \
        NNET_EXPAND(NNET_EACH(NAME, __VA_ARGS__)){nullptr, 0, sizeof(NAME), 0}}; \
    }
#define NNET_EACH(NAME, FIRST, ...) \
    NNET_MEMBER(NAME, FIRST) __VA_OPT__(NNET_NEXT NNET_PARENTHESES(NAME, __VA_ARGS__))
#define NNET_NEXT() NNET_EACH
#define NNET_PARENTHESES ()
#define NNET_EXPAND(...) NNET_EXPAND2(NNET_EXPAND2(NNET_EXPAND2(NNET_EXPAND2(__VA_ARGS__))))
#define NNET_EXPAND2(...) NNET_EXPAND1(NNET_EXPAND1(NNET_EXPAND1(NNET_EXPAND1(__VA_ARGS__))))
#define NNET_EXPAND1(...) __VA_ARGS__
