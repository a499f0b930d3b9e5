// Factors and solutions of symmetric matrices, by LAPACK.
#include "Failure.hpp"

using namespace ct;

extern "C" {

ct_tensor ct_cholesky(ct_tensor handle, int64_t *block, int64_t *pivot) {
    return attempt<ct_tensor>(nullptr, [&]() -> ct_tensor {
        *block = -1;
        auto [lower, info] = at::linalg_cholesky_ex(get(handle));
        auto flat = info.reshape({-1}).contiguous();
        for (int64_t index = 0; index < flat.numel(); ++index) {
            auto status = flat.data_ptr<int32_t>()[index];
            if (status == 0) continue;
            *block = index;
            *pivot = status - 1;
            TORCH_CHECK(false, "not positive definite");
        }
        return wrap(lower);
    });
}

ct_tensor ct_solve_transposed(ct_tensor lower, ct_tensor right) {
    return make([&] { return at::linalg_solve_triangular(get(lower).mT(), get(right), /*upper=*/true); });
}

int32_t ct_symmetric_eigen(ct_tensor handle, ct_tensor *values, ct_tensor *vectors) {
    return attempt<int32_t>(-1, [&] {
        auto [found, columns] = at::linalg_eigh(get(handle));
        *values = wrap(found);
        *vectors = wrap(columns);
        return 0;
    });
}

}
