// Convolution, 2×2 max-pooling and ReLU as one operation with its own gradient; with weights as plain numbers, or as independent Gaussians by local
// reparameterisation.
//
// Kingma, Salimans & Welling, "Variational dropout and the local reparameterization trick" (2015): with m = conv(x; μ) and v = conv(x²; σ²) each position
// is m + √(v + 10⁻¹⁶)·ζ before it is pooled. Only the pooled values, which position won and its ζ / 2√v are kept: the gradient needs no more.
#include "PooledConvolution.hpp"
#include "PooledGradient.hpp"
#include <torch/csrc/autograd/custom_function.h>

using namespace ct;

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NoiseKey {
    uint64_t high, low;
};

// One path's weights in the kernels' order, and its bias with room for whole vectors.
struct Path {
    std::vector<float> packed, bias;
    Path(const PooledSizes &s, const at::Tensor &weight, const at::Tensor &offset) : bias(room(s.g.outputs)) {
        packed.resize(static_cast<size_t>(kernels().packedCount(s.g.outputs, s.g.patch())));
        kernels().packWeights(byPatch(weight).data_ptr<float>(), s.g.outputs, s.g.patch(), packed.data());
        std::memcpy(bias.data(), offset.contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.g.outputs));
    }
};

struct PooledConvolution : torch::autograd::Function<PooledConvolution> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias, const c10::optional<at::Tensor> &variance,
        const c10::optional<at::Tensor> &biasVariance, int64_t padding, NoiseKey key, at::Tensor *winnersOut) {
        const PooledSizes s(input.sizes(), weight.sizes(), padding);
        const bool noisy = variance.has_value();
        const auto x = lastChannels(input);
        auto y = at::empty({s.images, s.g.outputs, s.g.high, s.g.wide}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
        auto winners = at::empty({s.images, s.g.high, s.g.wide, s.g.outputs}, x.options().dtype(at::kByte));
        auto rates = noisy ? at::empty({s.images, s.g.high, s.g.wide, s.g.outputs}, x.options()) : at::Tensor();
        const Path mean(s, weight, bias);
        std::unique_ptr<Path> spread = noisy ? std::make_unique<Path>(s, *variance, *biasVariance) : nullptr;
        const auto offsets = s.offsets();
        const int64_t sumCount = 4 * s.g.windows() * upTo(s.g.outputs, kernels().lanes);
        auto bordered = room(s.paddedCount()), sums = room(sumCount);
        auto squares = room(noisy ? s.paddedCount() : 0), spreads = room(noisy ? sumCount : 0), noise = room(noisy ? s.noiseCount() : 0);
        for (int64_t index = 0; index < s.images; ++index) {
            const float *image = x.data_ptr<float>() + index * s.imageCount();
            if (padding > 0) s.addBorder(image, bordered.data()), image = bordered.data();
            kernels().convolve(s.g, image, offsets.data(), mean.packed.data(), sums.data());
            float *out = y.data_ptr<float>() + index * s.pooledCount();
            uint8_t *won = winners.data_ptr<uint8_t>() + index * s.pooledCount();
            if (!noisy) {
                kernels().pool(s.g, sums.data(), mean.bias.data(), out, won);
                continue;
            }
            square(image, s.paddedCount(), squares.data());
            kernels().convolve(s.g, squares.data(), offsets.data(), spread->packed.data(), spreads.data());
            kernels().normals(key.high, key.low, static_cast<uint64_t>(index * s.noiseCount()), s.noiseCount(), noise.data());
            kernels().poolNoisy(
                s.g, sums.data(), mean.bias.data(), spreads.data(), spread->bias.data(), noise.data(), out, won, rates.data_ptr<float>() + index * s.pooledCount());
        }
        if (winnersOut != nullptr) *winnersOut = winners;
        context->save_for_backward({x, weight, noisy ? *variance : at::Tensor(), winners, rates});
        context->saved_data["padding"] = padding;
        context->saved_data["input"] = input.requires_grad();
        context->saved_data["weight"] = weight.requires_grad();
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list slopes) {
        const auto saved = context->get_saved_variables();
        const int64_t padding = context->saved_data["padding"].toInt();
        auto found = pooledGradient(
            saved[0], saved[1], saved[2], saved[3], saved[4], lastChannels(slopes[0]), padding, context->saved_data["input"].toBool(),
            context->saved_data["weight"].toBool());
        return {found.input, found.weight, found.bias, found.variance, found.biasVariance, {}, {}, {}};
    }
};

bool hasKernel(std::initializer_list<at::Tensor> tensors) {
    for (const auto &a : tensors)
        if (!a.is_cpu() || a.scalar_type() != at::kFloat) return false;
    return !kernels().isReference;
}

at::Tensor convolution(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t padding) {
    return at::conv2d(x, weight, bias, {1, 1}, {padding, padding});
}

// The same by libtorch's operations.
at::Tensor plain(const at::Tensor &x, const at::Tensor &w, const at::Tensor &b, const at::Tensor &variance, const at::Tensor &biasVariance, int64_t padding, NoiseKey key) {
    auto m = convolution(x, w, b, padding);
    if (variance.defined()) {
        const PooledSizes s(x.sizes(), w.sizes(), padding);
        const auto v = convolution(x.square(), variance, biasVariance, padding);
        auto noise = at::empty({s.images, s.g.high, s.g.wide, 2, 2, s.g.outputs}, at::kFloat);
        kernels().normals(key.high, key.low, 0, noise.numel(), noise.data_ptr<float>());
        noise = noise.permute({0, 5, 1, 3, 2, 4}).reshape({s.images, s.g.outputs, 2 * s.g.high, 2 * s.g.wide}).to(x.options());
        const auto cut = [&](const at::Tensor &a) { return a.narrow(2, 0, 2 * s.g.high).narrow(3, 0, 2 * s.g.wide); };
        m = cut(m) + (cut(v) + 1e-16).sqrt() * noise;
    }
    return at::max_pool2d(m, {2, 2}, {2, 2}).relu();
}

at::Tensor orZeros(ct_tensor bias, const at::Tensor &weight) { return bias ? get(bias) : at::zeros({weight.size(0)}, weight.options()); }

}  // namespace

extern "C" {

ct_tensor ct_convolution_pool(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t padding, ct_tensor *winners) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x), &w = get(weight);
        const auto b = orZeros(bias, w);
        at::Tensor won;
        if (!hasKernel({input, w, b})) {
            if (winners != nullptr) *winners = nullptr;
            return plain(input, w, b, {}, {}, padding, {});
        }
        auto y = PooledConvolution::apply(input, w, b, c10::optional<at::Tensor>(), c10::optional<at::Tensor>(), padding, NoiseKey{}, &won);
        if (winners != nullptr) *winners = wrap(won);
        return y;
    });
}

ct_tensor ct_noisy_convolution_pool(
    ct_tensor x, ct_tensor weight, ct_tensor bias, ct_tensor variance, ct_tensor biasVariance, int64_t padding, uint64_t high, uint64_t low) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x), &w = get(weight), &v = get(variance);
        const auto b = orZeros(bias, w), bv = orZeros(biasVariance, v);
        TORCH_CHECK(w.sizes() == v.sizes(), "means ", w.sizes(), " and variances ", v.sizes());
        if (!hasKernel({input, w, b, v, bv})) return plain(input, w, b, v, bv, padding, {high, low});
        return PooledConvolution::apply(input, w, b, c10::optional<at::Tensor>(v), c10::optional<at::Tensor>(bv), padding, NoiseKey{high, low}, nullptr);
    });
}
}
