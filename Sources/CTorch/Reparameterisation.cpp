// A dense layer whose weights are independent Gaussians, by local reparameterisation, as one operation with its own gradient.
//
// Kingma, Salimans & Welling (2015): y = x μᵀ + √(x² (σ²)ᵀ + 10⁻¹⁶) · ζ. The products are the BLAS's; root, noise and what the gradient needs of them are
// one pass over the outputs.
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"
#include <torch/csrc/autograd/custom_function.h>

using namespace ct;

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NoisyLinear : torch::autograd::Function<NoisyLinear> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &variance,
        const at::Tensor &biasVariance, uint64_t high, uint64_t low) {
        const auto x = input.contiguous(), squares = x.square();
        auto y = at::addmm(bias, x, weight.t()), rates = at::addmm(biasVariance, squares, variance.t());
        kernels().addNoise(high, low, y.numel(), y.data_ptr<float>(), rates.data_ptr<float>(), y.data_ptr<float>(), rates.data_ptr<float>());
        context->save_for_backward({x, squares, weight, variance, rates});
        context->saved_data["input"] = input.requires_grad();
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list slopes) {
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &squares = saved[1], &weight = saved[2], &variance = saved[3];
        const auto slope = slopes[0].contiguous(), rate = slope * saved[4];
        at::Tensor byInput;
        if (context->saved_data["input"].toBool()) byInput = at::addcmul(at::mm(slope, weight), x, at::mm(rate, variance), 2);
        return {byInput, at::mm(slope.t(), x), slope.sum(0), at::mm(rate.t(), squares), rate.sum(0), {}, {}};
    }
};

}  // namespace

extern "C" {

ct_tensor ct_noisy_linear(ct_tensor x, ct_tensor weight, ct_tensor bias, ct_tensor variance, ct_tensor biasVariance, uint64_t high, uint64_t low) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x), &w = get(weight), &v = get(variance);
        TORCH_CHECK(input.dim() == 2 && w.dim() == 2 && input.size(1) == w.size(1) && w.sizes() == v.sizes(), "input ", input.sizes(), ", means ", w.sizes(), " and variances ", v.sizes());
        const auto b = bias ? get(bias) : at::zeros({w.size(0)}, w.options()), bv = biasVariance ? get(biasVariance) : at::zeros({w.size(0)}, w.options());
        bool hasKernel = !kernels().isReference;
        for (const auto &a : {input, w, b, v, bv}) hasKernel = hasKernel && a.is_cpu() && a.scalar_type() == at::kFloat;
        if (hasKernel) return NoisyLinear::apply(input, w, b, v, bv, high, low);
        auto noise = at::empty({input.size(0), w.size(0)}, at::kFloat);
        kernels().normals(high, low, 0, noise.numel(), noise.data_ptr<float>());
        return at::linear(input, w, b) + (at::linear(input.square(), v, bv) + 1e-16).sqrt() * noise.to(input.options());
    });
}
}
