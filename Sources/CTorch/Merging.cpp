// Sums of many tensors at the speed of memory: what merging models of many shards comes to.
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"
#if defined(__linux__)
#include <sys/mman.h>
#endif

using namespace ct;

namespace {

template <typename Number> std::vector<const Number *> pointers(const std::vector<at::Tensor> &parts) {
    std::vector<const Number *> result;
    for (const auto &part : parts) result.push_back(part.data_ptr<Number>());
    return result;
}

// A tensor like `part` to be written to as a whole. The pages of a large one are new, and bringing in small ones takes longer than all the sums: huge
// pages are asked for, which a kernel may refuse without harm.
at::Tensor fresh(const at::Tensor &part) {
    auto result = at::empty_like(part);
#if defined(__linux__)
    constexpr uintptr_t page = 1 << 21;
    const auto begin = reinterpret_cast<uintptr_t>(result.data_ptr());
    const uintptr_t first = (begin + page - 1) / page * page, end = (begin + result.nbytes()) / page * page;
    if (end > first) madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);
#endif
    return result;
}

}  // namespace

extern "C" {

ct_tensor ct_weighted_sum(const ct_tensor *list, const double *weights, int32_t count) {
    return make([&]() -> at::Tensor {
        TORCH_CHECK(count > 0, "a sum of no tensors");
        std::vector<at::Tensor> parts;
        for (int32_t index = 0; index < count; ++index) {
            parts.push_back(get(list[index]).contiguous());
            TORCH_CHECK(parts.back().sizes() == parts[0].sizes() && parts.back().scalar_type() == parts[0].scalar_type(), "tensors ", parts[0].sizes(), " and ", parts.back().sizes());
        }
        auto result = fresh(parts[0]);
        if (parts[0].scalar_type() == at::kFloat)
            kernels().weightedSum(pointers<float>(parts).data(), weights, count, result.numel(), result.data_ptr<float>());
        else
            kernels().weightedSumDouble(pointers<double>(parts).data(), weights, count, result.numel(), result.data_ptr<double>());
        return result;
    });
}
}
