// Gradients of a pooled convolution from the gradient of its outputs.
#pragma once
#include "Failure.hpp"

namespace ct {

struct PooledGradient {
    // Undefined where there is none: what was not asked for, the variances without them.
    at::Tensor input, weight, bias, variance, biasVariance;
};

// x and slope with channels last; `rates` and `variance` undefined without variances.
PooledGradient pooledGradient(
    const at::Tensor &x, const at::Tensor &weight, const at::Tensor &variance, const at::Tensor &winners, const at::Tensor &rates, const at::Tensor &slope,
    int64_t padding, bool wantsInput, bool wantsWeights);

// Sums over images of each image's squared gradient.
struct PooledSquares {
    at::Tensor weight, bias;
};
PooledSquares pooledSquares(const at::Tensor &x, const at::Tensor &winners, const at::Tensor &slope, int64_t kernel, int64_t padding);

}  // namespace ct
