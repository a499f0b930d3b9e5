// The kernels' tables for each instruction set, and the choice among them.
#include "CTorch.h"
#include "Kernels.hpp"
#include <cstddef>

namespace ct {

namespace baseline {
constexpr int vectorBytes = 16;
constexpr const char *levelName = "baseline";
#include "Level.hpp"
}  // namespace baseline

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
namespace avx2 {
constexpr int vectorBytes = 32;
constexpr const char *levelName = "AVX2";
#include "Level.hpp"
}  // namespace avx2
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
namespace avx512 {
constexpr int vectorBytes = 64;
constexpr const char *levelName = "AVX-512";
#include "Level.hpp"
}  // namespace avx512
#pragma clang attribute pop
#endif

namespace {

const Kernels reference = [] {
    Kernels table = baseline::table;
    table.name = "reference";
    table.isReference = true;
    return table;
}();

// The table of a level, if this processor can run it.
const Kernels *supported(int32_t level) {
    if (level == CT_REFERENCE) return &reference;
    if (level == CT_BASELINE) return &baseline::table;
#if defined(__x86_64__)
    if (level == CT_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2::table;
    if (level == CT_AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &avx512::table;
#endif
    return nullptr;
}

const Kernels *widest() {
    for (int32_t level = CT_AVX512; level > CT_BASELINE; --level)
        if (auto table = supported(level)) return table;
    return &baseline::table;
}

// Backward passes run on the thread that asks for them, so a thread's choice holds for all that it computes.
thread_local const Kernels *chosen = nullptr;

}  // namespace

const Kernels &kernels() {
    if (chosen == nullptr) chosen = widest();
    return *chosen;
}

}  // namespace ct

extern "C" {

int32_t ct_use_kernels(int32_t level) {
    auto table = level == CT_WIDEST ? ct::widest() : ct::supported(level);
    if (table == nullptr) return -1;
    ct::chosen = table;
    return 0;
}

const char *ct_kernels(void) { return ct::kernels().name; }
}
